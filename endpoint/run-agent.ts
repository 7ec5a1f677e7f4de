import { pino } from 'pino';

import { ensureError } from '../contracts/errors';

import { Agent } from './agent';
import { readConfig, type AgentConfig } from './config';
import { EXIT_REFUSED } from './registration';
import { DirectoryInUseError } from './state-dir';

/** Runs the agent that this environment describes in this process, with log and signal handling. Exits when the agent ends. */
export async function runAgent(env: NodeJS.ProcessEnv, adviceWhenRefused?: string): Promise<never> {
  let config: AgentConfig;
  try {
    config = readConfig(env);
  } catch (error) {
    fail(ensureError(error).message, EXIT_REFUSED);
  }
  const log = pino({ level: config.logLevel, base: { part: 'endpoint', endpoint_name: config.name } });
  let agent: Agent;
  try {
    agent = new Agent(config, log);
  } catch (error) {
    if (error instanceof DirectoryInUseError) fail(error.message, EXIT_REFUSED);
    throw error;
  }
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => agent.drain(signal));
  log.info({ dir: config.dir, api: config.apiUrl, workers: config.workers, incarnation: agent.incarnation }, 'the agent starts');
  await agent.start();
  const { exitCode, sentence } = await agent.ended;
  if (sentence !== undefined) process.stderr.write(`${sentence}\n`);
  if (exitCode === EXIT_REFUSED && adviceWhenRefused !== undefined) process.stderr.write(`${adviceWhenRefused}\n`);
  process.exit(exitCode);
}

function fail(sentence: string, exitCode: number): never {
  process.stderr.write(`${sentence}\n`);
  process.exit(exitCode);
}

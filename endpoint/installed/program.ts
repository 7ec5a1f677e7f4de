import fs from 'node:fs';
import path from 'node:path';

import { Command, CommanderError, InvalidArgumentError } from 'commander';

import { ensureError, FuncXError, TerminalError } from '../../contracts/errors';
import { version } from '../package.json';
import { runAgent } from '../run-agent';
import { readAgentStatus, runningAgent } from '../state-dir';

import { adviceWhenRefused, environmentOf, startInBackground, stopInBackground } from './background';
import { enrol } from './enrol';
import { dirOf, listNames, logOf, readIdentity, readSettings, requireName, writeSettings, type AgentSettings } from './folders';
import { pythonPathOf } from './python';

/** `funcx-endpoint`: the agent on machines where the service is not installed. */

const FAILED = 1;
const WRONG_USAGE = 2;

interface StartOptions {
  python?: string;
  requirements?: string;
  workers?: number;
}

export async function runProgram(args: readonly string[]): Promise<void> {
  // Earlier releases had no commands: environment variables alone described the agent.
  if (args.length === 0 && process.env.FUNCX_CLIENT_ID && process.env.FUNCX_CLIENT_SECRET) return runAgent(process.env);
  const program = createProgram();
  for (const command of [program, ...program.commands]) command.exitOverride();
  try {
    await program.parseAsync(args, { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) {
      process.exitCode = error.exitCode === 0 ? 0 : WRONG_USAGE;
      return;
    }
    const isExpected = error instanceof FuncXError;
    process.stderr.write(`${isExpected ? `${error.message} [${error.code}]` : (ensureError(error).stack ?? String(error))}\n`);
    process.exitCode = FAILED;
  }
}

function createProgram(): Command {
  const program = new Command('funcx-endpoint')
    .description('serve an endpoint of funcX on Temporal on this machine; it connects outbound only and opens no port')
    .version(version, '--version', 'print the version')
    .showHelpAfterError('(add --help for more)')
    .addHelpText('after', '\nIdentities, settings and logs are in ~/.funcx-endpoint, or in the folder FUNCX_ENDPOINT_HOME.');
  addStartOptions(program.command('enroll').alias('enrol').description('enrol with a one-time code, and start'))
    .argument('<code>', 'as "funcx endpoint invite" printed it')
    .option('--no-start', 'enrol only')
    .option('--insecure-http', 'accept an http:// address that is not on this machine; secrets are then sent unencrypted')
    .action((code: string, options: StartOptions & { start: boolean; insecureHttp?: boolean }) => enroll(code, options));
  addStartOptions(program.command('start').description('start the agent in the background; returns when it is connected'))
    .argument('[name]', 'the endpoint, if there are several here')
    .action(async (name: string | undefined, options: StartOptions) => start(requireName(name), options));
  addStartOptions(program.command('run').description('run the agent in the foreground, for systemd and Slurm'))
    .argument('[name]')
    .action(async (wanted: string | undefined, options: StartOptions) => {
      const name = requireName(wanted);
      remember(name, options);
      return runAgent(environmentOf(name, say), adviceWhenRefused(name));
    });
  program
    .command('stop')
    .description('stop the agent; running calls have 30 s to end, longer ones run again later')
    .argument('[name]')
    .action(async (wanted: string | undefined) => {
      const name = requireName(wanted);
      say(
        (await stopInBackground(name)) ? `Stopped the agent of endpoint ${name}.` : `The agent of endpoint ${name} did not run.`,
      );
    });
  program
    .command('status')
    .description('show the endpoints that are served here')
    .option('--json', 'print JSON, for programs')
    .action((options: { json?: boolean }) => status(options.json === true));
  return program;
}

function addStartOptions(command: Command): Command {
  return command
    .option('--python <path>', 'run Python functions with this Python, or environment; "default" undoes this')
    .option('--requirements <file>', 'create an environment with the packages of this file')
    .option('--workers <count>', 'calls at the same time (default: the cores of this machine)', parseCount);
}

function parseCount(text: string): number {
  if (!/^[1-9]\d{0,3}$/.test(text)) throw new InvalidArgumentError('give a whole number from 1 to 4096.');
  return Number(text);
}

const say = (text: string): void => void process.stdout.write(`${text}\n`);

async function enroll(code: string, options: StartOptions & { start: boolean; insecureHttp?: boolean }): Promise<void> {
  const settings = settingsOf({}, options); // an invalid option must not use up the code
  const { name, id } = await enrol(code, { isHttpAllowed: options.insecureHttp === true });
  if (Object.keys(settings).length > 0) writeSettings(name, settings);
  say(`Enrolled for endpoint ${name} (${id}). The code is now used; the identity of this agent is in ${dirOf(name)}.`);
  if (options.start) await start(name, {});
}

async function start(name: string, options: StartOptions): Promise<void> {
  remember(name, options);
  const pid = await startInBackground(name, say);
  if (pid === undefined) say(`The agent of endpoint ${name} is already running; stop it first to change its settings.`);
  else say(`Endpoint ${name} is connected: process ${pid}, log ${logOf(name)}`);
}

function remember(name: string, options: StartOptions): void {
  const known = readSettings(name);
  const wanted = settingsOf(known, options);
  if (JSON.stringify(wanted) !== JSON.stringify(known)) writeSettings(name, wanted);
}

function settingsOf(known: AgentSettings, { python, requirements, workers }: StartOptions): AgentSettings {
  if (python !== undefined && requirements !== undefined) {
    throw new TerminalError('INVALID_REQUEST', 'Give one of --python and --requirements.');
  }
  const { python: _python, requirements: _requirements, ...rest } = known;
  const kept = python === undefined && requirements === undefined ? known : rest;
  return {
    ...kept,
    ...(workers === undefined ? {} : { workers }),
    ...(python === undefined || python === 'default' ? {} : { python: pythonPathOf(python) }),
    ...(requirements === undefined ? {} : { requirements: readRequirements(requirements) }),
  };
}

function readRequirements(file: string): string {
  try {
    return fs.readFileSync(path.resolve(file), 'utf8');
  } catch (cause) {
    throw new TerminalError('INVALID_REQUEST', `The requirements file ${file} cannot be read.`, { cause });
  }
}

function status(isJson: boolean): void {
  const agents = listNames().map((name) => {
    const pid = runningAgent(dirOf(name)) ?? null;
    const state = pid === null ? 'stopped' : (readAgentStatus(dirOf(name))?.state ?? 'connecting');
    const { endpoint_id: id = null, api_url: service = null } = readIdentity(name) ?? {};
    return { name, id, service, state, pid, log: logOf(name) };
  });
  if (isJson) return say(JSON.stringify({ agents }, null, 2));
  if (agents.length === 0)
    return say('No agent is enrolled here. The owner of an endpoint creates a code: funcx endpoint invite NAME');
  for (const { name, id, service, state, pid, log } of agents) {
    say(`${name}  ${state}${pid === null ? '' : ` (process ${pid})`}  endpoint ${id} of ${service}, log ${log}`);
  }
}

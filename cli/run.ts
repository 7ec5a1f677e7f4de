import { DEFAULT_UP } from '../local/options';
import { UserError } from '../local/user-error';

import { findEndpoint, registerPython, submitCall, waitForTask } from './call-function';
import { connect } from './connection';
import { readPythonFunction } from './python-source';

import type { Command } from 'commander';

import type { Outcome } from './call-function';

interface RunOptions {
  endpoint: string;
  args: string;
  kwargs: string;
  timeout?: string;
  dataDir: string;
  json?: boolean;
}

export function addRunCommand(program: Command): void {
  program
    .command('run')
    .description('run a Python function of a file on an endpoint and print what it returns')
    .argument('<FILE.py:NAME>', 'the file and the name of a function at its top level')
    .requiredOption('--endpoint <name|id>', 'where to run it')
    .option('--args <json>', 'positional arguments, a JSON array', '[]')
    .option('--kwargs <json>', 'keyword arguments, a JSON object', '{}')
    .option('--timeout <seconds>', 'stop waiting after this time; the task goes on')
    .option('--data-dir <dir>', 'the data folder of the system', DEFAULT_UP.dataDir)
    .option('--json', 'print {"task_id", "value"} or {"task_id", "exception"}')
    .action((reference: string, options: RunOptions) => run(reference, options));
}

async function run(reference: string, options: RunOptions): Promise<void> {
  const args = parseJson('--args', options.args, Array.isArray, 'array, such as [1, "two"]') as unknown[];
  const isObject = (value: unknown): boolean => typeof value === 'object' && value !== null && !Array.isArray(value);
  const kwargs = parseJson('--kwargs', options.kwargs, isObject, 'object, such as {"n": 1}') as Record<string, unknown>;
  const timeoutMs = parseTimeout(options.timeout);
  const source = readPythonFunction(reference);
  const api = connect(options.dataDir);
  const endpointId = await findEndpoint(api, options.endpoint);
  const functionId = await registerPython(api, source);
  const taskId = await submitCall(api, { endpointId, functionId, args, kwargs });
  const signal = timeoutMs === undefined ? undefined : AbortSignal.timeout(timeoutMs);
  try {
    print(await waitForTask(api, taskId, signal), options.json === true);
  } catch (error) {
    if (signal?.aborted !== true) throw error;
    throw new UserError(`No answer within ${options.timeout} s. Task ${taskId} goes on; its endpoint may be offline.`);
  }
}

function print(outcome: Outcome, asJson: boolean): void {
  const hasFailed = outcome.exception !== undefined;
  if (hasFailed) process.exitCode = 1;
  if (asJson) {
    const result = hasFailed ? { exception: outcome.exception } : { value: outcome.value ?? null };
    process.stdout.write(`${JSON.stringify({ task_id: outcome.taskId, ...result })}\n`);
  } else if (hasFailed) {
    process.stderr.write(`${outcome.exception?.trimEnd()}\n`);
  } else {
    const { value } = outcome;
    process.stdout.write(`${typeof value === 'string' ? value : JSON.stringify(value)}\n`);
  }
}

function parseJson(option: string, text: string, isRight: (value: unknown) => boolean, what: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text) as unknown;
  } catch {
    throw new UserError(`${option} is not JSON: ${text}`);
  }
  if (!isRight(value)) throw new UserError(`${option} must be a JSON ${what}.`);
  return value;
}

function parseTimeout(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const seconds = Number(text);
  if (!(seconds > 0)) throw new UserError(`--timeout must be a number of seconds above 0, not "${text}".`);
  return seconds * 1000;
}

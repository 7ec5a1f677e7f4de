import { isEndState } from '../contracts/states';
import { UserError } from '../local/machine/user-error';
import { FuncXError } from '../sdk/index';

import { parseJsonArray, parseJsonObject, parsePositive } from './arguments';
import { withClient } from './connection';
import { readFunction } from './function-source';
import { findEndpoint } from './lookup';
import { readArgumentSets, runMap } from './map';
import { registerOnce } from './register-once';
import { addCommonOptions, print } from './output';
import { outputOf, printOutput } from './task-output';
import { noteOf, showValue, writeValue } from './value';

import type { Command } from 'commander';

import type { Client, TaskState } from '../sdk/index';
import type { CommonOptions } from './output';

/** If there is no answer after this time, the command says why. */
const TELL_AFTER_MS = 2_000;
const LONG_POLL_S = 20;
/** The exit code that shells report for a program that Ctrl-C ended. */
const INTERRUPTED = 130;

interface RunOptions extends CommonOptions {
  endpoint: string;
  args: unknown[];
  kwargs: Record<string, unknown>;
  map?: string;
  timeout?: number;
  output?: string;
}

export function addRunCommand(program: Command): void {
  addCommonOptions(program.command('run').description('run a function of a file on an endpoint and print what it returns'))
    .argument('<FILE[:NAME]>', 'a .py, .js or .sh file, and which function of it')
    .requiredOption('--endpoint <name|id>', 'where to run it')
    .option('--args <json|@file>', 'positional arguments, a JSON array', parseJsonArray, [])
    .option('--kwargs <json|@file>', 'keyword arguments, a JSON object', parseJsonObject, {})
    .option('--map <file>', 'one call for each argument set of this file, one JSON value per line; "-" reads standard input')
    .option('--output <file>', 'write the value to this file: text and bytes as they are, else JSON, else a pickle')
    .option('--timeout <seconds>', 'stop waiting after this time; the task continues', parsePositive)
    .addHelpText(
      'after',
      '\nThe whole file is sent; code under __name__ == "__main__" does not run. A Python value that is not JSON is' +
        ' shown by its repr. What the function prints is printed here when it ends.\nWith --json: {"task_id", "value"} or {"task_id", "exception"}; numbers are as the function wrote' +
        ' them, NaN too. The exit code is 1 when the function failed.\n\nExamples:\n  funcx run examples/hello.py --endpoint local --args \'["Ada"]\'\n' +
        '  printf \'["Ada"]\\n["Grace"]\\n\' | funcx run examples/hello.py --endpoint local --map -',
    )
    .action((reference: string, options: RunOptions) => withClient(options, (client) => run(client, reference, options)));
}

async function run(client: Client, reference: string, options: RunOptions): Promise<void> {
  const source = readFunction(reference);
  const endpointId = await findEndpoint(client, options.endpoint);
  const sets = options.map === undefined ? undefined : readArgumentSets(options.map);
  const functionId = await registerOnce(client, source);
  if (sets !== undefined) return runMap(client, { endpointId, functionId, sets }, options.json === true);
  const { taskIds } = await client.submit(endpointId, [{ functionId, args: options.args, kwargs: options.kwargs }]);
  const [taskId = ''] = taskIds; // one call, one id
  const asJson = options.json === true;
  const signal = options.timeout === undefined ? undefined : AbortSignal.timeout(options.timeout * 1000);
  const notice = setTimeout(() => void tellWhyItWaits(client, taskId, endpointId), TELL_AFTER_MS);
  process.once('SIGINT', () => {
    process.stderr.write(`\n${goesOn(taskId)}\n`);
    process.exit(INTERRUPTED);
  });
  try {
    const task = await waitForEnd(client, taskId, signal);
    clearTimeout(notice);
    if (!asJson) printOutput(outputOf(task));
    if (task.result === undefined) showFailure(task, asJson);
    else showResult(task, task.result, options);
  } catch (error) {
    if (signal?.aborted !== true) throw error;
    throw new UserError(`No answer within ${options.timeout} s. ${goesOn(taskId)}`);
  } finally {
    clearTimeout(notice);
  }
}

async function waitForEnd(client: Client, taskId: string, signal: AbortSignal | undefined): Promise<TaskState> {
  for (;;) {
    signal?.throwIfAborted();
    const task = await client.task(taskId, { waitS: LONG_POLL_S, signal });
    if (isEndState(task.state)) return task;
  }
}

function showResult(task: TaskState, result: string, { json, output }: RunOptions): void {
  const { task_id, details } = task;
  const value = showValue(result, details);
  if (output !== undefined) process.stderr.write(`${writeValue(output, result, details)}\n`);
  if (json === true) {
    const more = Object.entries({ ...value.look, ...outputOf(task) }).map(([key, text]) => `,"${key}":${JSON.stringify(text)}`);
    print(`{"task_id":${JSON.stringify(task_id)},"value":${value.json}${more.join('')}}`);
    return;
  }
  if (output !== undefined) return;
  print(value.text);
  const note = noteOf(value);
  if (note !== undefined) process.stderr.write(`${note}\n`);
}

function showFailure(task: TaskState, asJson: boolean): void {
  process.exitCode = 1;
  const text = task.exception ?? 'The task failed without saying why.';
  if (asJson) print(JSON.stringify({ task_id: task.task_id, exception: text, ...outputOf(task) }));
  else process.stderr.write(`${text.trimEnd()}\n`);
}

const goesOn = (taskId: string): string =>
  `Task ${taskId} continues: "funcx task ${taskId} --wait 60" shows its answer, "funcx cancel task ${taskId}" cancels it.`;

async function tellWhyItWaits(client: Client, taskId: string, endpointId: string): Promise<void> {
  try {
    const [{ state }, { status }] = await Promise.all([client.task(taskId), client.endpointStatus(endpointId)]);
    if (isEndState(state)) return;
    const reason = status === 'offline' ? 'its endpoint is offline; the task runs when the endpoint is back' : `it is ${state}`;
    process.stderr.write(`Task ${taskId} has no answer yet: ${reason}.\n`);
  } catch (error) {
    // If the error lasts, the wait itself reports it.
    if (!(error instanceof FuncXError)) throw error;
  }
}

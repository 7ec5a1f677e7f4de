import { isEndState } from '../contracts/states';
import { UserError } from '../local/machine/user-error';
import { FuncXError, TaskError } from '../sdk';

import { parseJsonArray, parseJsonObject, parsePositive } from './arguments';
import { withClient } from './connection';
import { readFunction } from './function-source';
import { findEndpoint } from './lookup';
import { addCommonOptions, print, show } from './output';

import type { Command } from 'commander';

import type { Client } from '../sdk';
import type { CommonOptions } from './output';

/** A person waits that long without asking why. */
const TELL_AFTER_MS = 2_000;
/** As shells have it for a program that was ended by Ctrl-C. */
const INTERRUPTED = 130;

interface RunOptions extends CommonOptions {
  endpoint: string;
  args: unknown[];
  kwargs: Record<string, unknown>;
  timeout?: number;
}

export function addRunCommand(program: Command): void {
  addCommonOptions(program.command('run').description('run a function of a file on an endpoint and print what it returns'))
    .argument('<FILE[:NAME]>', 'a .py, .js or .sh file, and which function of it')
    .requiredOption('--endpoint <name|id>', 'where to run it')
    .option('--args <json>', 'positional arguments, a JSON array', parseJsonArray, [])
    .option('--kwargs <json>', 'keyword arguments, a JSON object', parseJsonObject, {})
    .option('--timeout <seconds>', 'stop waiting after this time; the task goes on', parsePositive)
    .addHelpText(
      'after',
      '\nWith --json: {"task_id", "value"} or {"task_id", "exception"}. The exit code is 1 when the function failed.',
    )
    .action((reference: string, options: RunOptions) => withClient(options, (client) => run(client, reference, options)));
}

async function run(client: Client, reference: string, options: RunOptions): Promise<void> {
  const source = readFunction(reference);
  const endpointId = await findEndpoint(client, options.endpoint);
  const functionId = await client.registerFunction(source);
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
    const value = await client.result(taskId, signal ? { signal } : {});
    print(asJson ? JSON.stringify({ task_id: taskId, value: value ?? null }) : show(value));
  } catch (error) {
    if (error instanceof TaskError) {
      process.exitCode = 1;
      if (asJson) print(JSON.stringify({ task_id: taskId, exception: error.message }));
      else process.stderr.write(`${error.message.trimEnd()}\n`);
      return;
    }
    if (signal?.aborted !== true) throw error;
    throw new UserError(`No answer within ${options.timeout} s. ${goesOn(taskId)}`);
  } finally {
    clearTimeout(notice);
  }
}

const goesOn = (taskId: string): string =>
  `Task ${taskId} goes on: "funcx task ${taskId} --wait 60" shows its answer, "funcx cancel task ${taskId}" ends it.`;

/** One line on standard error for a person who wonders why nothing happens. */
async function tellWhyItWaits(client: Client, taskId: string, endpointId: string): Promise<void> {
  try {
    const [{ state }, { status }] = await Promise.all([client.task(taskId), client.endpointStatus(endpointId)]);
    if (isEndState(state)) return;
    const reason = status === 'offline' ? 'its endpoint is offline, and it runs when that is back' : `it is ${state}`;
    process.stderr.write(`Task ${taskId} has no answer yet: ${reason}.\n`);
  } catch (error) {
    // The wait itself reports what lasts.
    if (!(error instanceof FuncXError)) throw error;
  }
}

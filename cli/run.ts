import { UserError } from '../local/user-error';
import { TaskError } from '../sdk';

import { parseJsonArray, parseJsonObject, parsePositive } from './arguments';
import { withClient } from './connection';
import { readFunction } from './function-source';
import { findEndpoint } from './lookup';
import { addCommonOptions, print, show } from './output';

import type { Command } from 'commander';

import type { Client } from '../sdk';
import type { CommonOptions } from './output';

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
    throw new UserError(`No answer within ${options.timeout} s. Task ${taskId} goes on; its endpoint may be offline.`);
  }
}

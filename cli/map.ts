import { readFileSync } from 'node:fs';

import { ensureError } from '../contracts/errors';
import { parseExactly } from '../contracts/json-text';
import { isEndState } from '../contracts/states';
import { UserError } from '../local/machine/user-error';

import { print } from './output';
import { createBar } from './progress';
import { showValue } from './value';
import { watchGroup } from './watch';

import type { CallRequest, Client, TaskState } from '../sdk/index';

/** `run --map FILE`: one call for each argument set of a file. */

/** Calls in one request. */
const BATCH_LIMIT = 500;

/**
 * The argument sets of a file, `-` for standard input: a JSON array, or one JSON value per line. An array is positional
 * arguments, an object keyword arguments, and any other value is the only argument.
 */
export function readArgumentSets(file: string): Pick<CallRequest, 'args' | 'kwargs'>[] {
  let text: string;
  try {
    text = readFileSync(file === '-' ? 0 : file, 'utf8');
  } catch (cause) {
    throw new UserError(`The file ${file} cannot be read: ${ensureError(cause).message}.`, { cause });
  }
  const sets = readSets(text, file);
  if (sets.length === 0) throw new UserError(`${file} has no argument set; give one per line, such as [1, 2].`);
  return sets.map((set) => {
    if (Array.isArray(set)) return { args: set as unknown[] };
    return typeof set === 'object' && set !== null && set.constructor === Object
      ? { kwargs: set as Record<string, unknown> }
      : { args: [set] };
  });
}

function readSets(text: string, file: string): unknown[] {
  const lines = text.split('\n').map((line, index) => ({ line: line.trim(), number: index + 1 }));
  const filled = lines.filter(({ line }) => line !== '');
  // The text is one array of sets if it is an array that has several lines, or that contains arrays or objects.
  const whole = tryParse(text);
  if (Array.isArray(whole) && (filled.length > 1 || whole.some((one) => typeof one === 'object' && one !== null))) return whole;
  return filled.map(({ line, number }) => {
    try {
      return parseExactly(line);
    } catch (cause) {
      throw new UserError(`${file}, line ${number}: this is not JSON: ${ensureError(cause).message}.`, { cause });
    }
  });
}

function tryParse(text: string): unknown {
  try {
    return parseExactly(text);
  } catch {
    return undefined; // then the text has one value per line
  }
}

/** Prints the values in the order of the sets. Sets the exit code to 1 if a call failed. */
export async function runMap(
  client: Client,
  { endpointId, functionId, sets }: { endpointId: string; functionId: string; sets: Pick<CallRequest, 'args' | 'kwargs'>[] },
  asJson: boolean,
): Promise<void> {
  const taskIds: string[] = [];
  let taskGroupId: string | undefined;
  for (let at = 0; at < sets.length; at += BATCH_LIMIT) {
    const calls = sets.slice(at, at + BATCH_LIMIT).map((set) => ({ functionId, ...set }));
    const submitted = await client.submit(endpointId, calls, taskGroupId === undefined ? {} : { taskGroupId });
    taskGroupId = submitted.taskGroupId;
    taskIds.push(...submitted.taskIds);
  }
  const group = taskGroupId ?? '';
  process.once('SIGINT', () => {
    process.stderr.write(
      `\nThe tasks continue: "funcx watch ${group}" shows their progress, "funcx cancel group ${group}" cancels them.\n`,
    );
    process.exit(130);
  });
  await watchGroup(client, group, createBar(process.stderr));
  for (const [index, taskId] of taskIds.entries()) {
    const task = await client.task(taskId);
    if (!isEndState(task.state))
      throw new Error(`task ${taskId} is ${task.state} although its task group has ended; "funcx task ${taskId}" shows it`);
    printOne(index, task, asJson);
  }
}

function printOne(index: number, task: TaskState, asJson: boolean): void {
  const { task_id: taskId, result } = task;
  if (result !== undefined) {
    const value = showValue(result, task.details);
    return print(asJson ? `{"index":${index},"task_id":${JSON.stringify(taskId)},"value":${value.json}}` : value.text);
  }
  process.exitCode = 1;
  const exception = task.exception ?? 'The task failed without saying why.';
  if (asJson) return print(JSON.stringify({ index, task_id: taskId, exception }));
  print('');
  process.stderr.write(`Argument set ${index + 1}: ${exception.trimEnd().split('\n').at(-1) ?? ''} (funcx task ${taskId})\n`);
}

import { isEndState } from '../contracts/states';
import { UserError } from '../local/machine/user-error';

import { parseId, parsePositive } from './arguments';
import { withClient } from './connection';
import { addCommonOptions, print, printFields, printJson } from './output';
import { outputOf } from './task-output';
import { noteOf, showValue, writeValue } from './value';

import type { Command } from 'commander';

import type { Client, TaskState } from '../sdk';
import type { CommonOptions } from './output';

const LONG_POLL_S = 20;

/** `task` and `cancel`. */
export function addTaskCommands(program: Command): void {
  addCommonOptions(program.command('task').description('show the state of a task, with its result or traceback'))
    .argument('<id>', 'the task', parseId)
    .option('--wait <seconds>', 'wait this long for its end', parsePositive)
    .option('--output <file>', 'write the value to this file: text and bytes as they are, else JSON, else a pickle')
    .action((id: string, options: TaskOptions) => showTask(id, options));

  const cancel = program.command('cancel').description('cancel what has no answer yet');
  const kinds = {
    task: async (client: Client, id: string): Promise<number> => Number(await client.cancelTask(id)),
    submission: (client: Client, id: string): Promise<number> => client.cancelSubmission(id),
    group: (client: Client, id: string): Promise<number> => client.cancelGroup(id),
  };
  for (const [kind, act] of Object.entries(kinds)) {
    const what = kind === 'task' ? 'cancel a task' : `cancel every open task of a ${kind === 'group' ? 'task group' : kind}`;
    addCommonOptions(cancel.command(kind).description(what))
      .argument('<id>', `the ${kind}`, parseId)
      .action((id: string, options: CommonOptions) => cancelWith(act, id, options));
  }
}

interface TaskOptions extends CommonOptions {
  wait?: number;
  output?: string;
}

async function showTask(id: string, options: TaskOptions): Promise<void> {
  const task = await withClient(options, (client) => readTask(client, id, options.wait ?? 0));
  const value = task.result === undefined ? undefined : showValue(task.result, task.details);
  if (options.output !== undefined) {
    if (task.result === undefined) throw new UserError(`Task ${id} is ${task.state} and has no value; nothing was written.`);
    process.stderr.write(`${writeValue(options.output, task.result, task.details)}\n`);
  }
  if (options.json === true) {
    const text = JSON.stringify(task, null, 2);
    print(value === undefined ? text : `${text.slice(0, -2)},\n  "value": ${value.json}\n}`);
    return;
  }
  printFields([
    ['task', task.task_id],
    ['state', task.error_code === undefined ? task.state : `${task.state} (${task.error_code})`],
    ['attempt', String(task.attempt)],
    ['function', task.function_id],
    ['endpoint', task.endpoint_id],
    ['submission', task.submission_id],
    ['task group', task.task_group_id],
  ]);
  const printed = outputOf(task);
  if (printed?.stdout) print(`\nprinted:\n${printed.stdout}`);
  if (printed?.stderr) print(`\nprinted to standard error:\n${printed.stderr}`);
  if (task.exception !== undefined) print(`\n${task.exception}`);
  else if (value !== undefined && options.output === undefined) {
    print(`\n${value.text}`);
    const note = noteOf(value);
    if (note !== undefined) process.stderr.write(`${note}\n`);
  }
}

async function readTask(client: Client, id: string, waitS: number): Promise<TaskState> {
  const deadlineMs = Date.now() + waitS * 1000;
  for (;;) {
    const leftS = Math.max(0, (deadlineMs - Date.now()) / 1000);
    const task = await client.task(id, { waitS: Math.min(leftS, LONG_POLL_S) });
    if (isEndState(task.state) || Date.now() >= deadlineMs) return task;
  }
}

async function cancelWith(
  act: (client: Client, id: string) => Promise<number>,
  id: string,
  options: CommonOptions,
): Promise<void> {
  const cancelled = await withClient(options, (client) => act(client, id));
  if (options.json === true) printJson({ id, cancelled });
  else
    print(
      cancelled === 0 ? 'Nothing to cancel: everything has its answer.' : `Cancelled ${cancelled} ${plural(cancelled, 'task')}.`,
    );
}

const plural = (count: number, word: string): string => (count === 1 ? word : `${word}s`);

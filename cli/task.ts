import { isEndState } from '../contracts/states';
import { UserError } from '../local/machine/user-error';

import { parseIdStart, parsePositive } from './arguments';
import { withClient } from './connection';
import { findTask, findWork } from './lookup';
import { addCommonOptions, print, printFields, printJson, showDuration, showTime } from './output';
import { addTaskListCommand, paintTaskState } from './task-list';
import { outputOf } from './task-output';
import { noteOf, showValue, writeValue } from './value';

import type { Command } from 'commander';

import type { Client, TaskState } from '../sdk/index';
import type { CommonOptions } from './output';

const LONG_POLL_S = 20;

/** `task` and `cancel`. */
export function addTaskCommands(program: Command): void {
  // Options after "list" belong to "list".
  const task = program
    .command('task')
    .description('show the state of a task, with its result or traceback')
    .enablePositionalOptions();
  addCommonOptions(task)
    .argument('<id>', 'the task, or <submission>/<index>; the first characters of an id are enough', parseIdStart)
    .option('--wait <seconds>', 'wait this long for its end', parsePositive)
    .option('--output <file>', 'write the value to this file: text and bytes as they are, else JSON, else a pickle')
    .action((id: string, options: TaskOptions) => showTask(id, options));
  addTaskListCommand(task);

  const cancel = program.command('cancel').description('cancel what has no answer yet');
  for (const kind of ['task', 'submission', 'group'] as const) {
    const what = kind === 'task' ? 'cancel a task' : `cancel every open task of a ${kind === 'group' ? 'task group' : kind}`;
    addCommonOptions(cancel.command(kind).description(what))
      .argument('<id>', `the ${kind}; the first characters of its id are enough`, parseIdStart)
      .action((id: string, options: CommonOptions) => cancelOne(kind, id, options));
  }
}

interface TaskOptions extends CommonOptions {
  wait?: number;
  output?: string;
}

async function showTask(wanted: string, options: TaskOptions): Promise<void> {
  const task = await withClient(options, async (client) => readTask(client, await findTask(client, wanted), options.wait ?? 0));
  const value = task.result === undefined ? undefined : showValue(task.result, task.details);
  if (options.output !== undefined) {
    if (task.result === undefined)
      throw new UserError(`Task ${task.task_id} is ${task.state} and has no value; nothing was written.`);
    process.stderr.write(`${writeValue(options.output, task.result, task.details)}\n`);
  }
  if (options.json === true) {
    const text = JSON.stringify(task, null, 2);
    print(value === undefined ? text : `${text.slice(0, -2)},\n  "value": ${value.json}\n}`);
    return;
  }
  const time = (iso: string | null | undefined, otherwise: string): string => (iso ? showTime(iso) : otherwise);
  printFields([
    ['task', task.task_id],
    ['state', paintTaskState(task.error_code === undefined ? task.state : `${task.state} (${task.error_code})`)],
    ['function', `${task.function_name} (${task.function_id})`],
    ['endpoint', `${task.endpoint_name} (${task.endpoint_id})`],
    ...(task.host === undefined ? [] : [['host', task.host] as const]),
    ['attempt', String(task.attempt)],
    ['submitted', showTime(task.submitted_at)],
    ['dispatched', time(task.dispatched_at, 'not yet')],
    ...(task.ran_ms === undefined ? [] : [['ran for', showDuration(task.ran_ms)] as const]),
    ['answered', time(task.answered_at, 'not yet')],
    ...(task.next_attempt_at === null ? [] : [['next attempt', showTime(task.next_attempt_at)] as const]),
    ...(task.last_error === null ? [] : [['after', task.last_error] as const]),
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

async function cancelOne(kind: 'task' | 'submission' | 'group', wanted: string, options: CommonOptions): Promise<void> {
  const { id, cancelled } = await withClient(options, async (client) => {
    if (kind === 'task') {
      const id = await findTask(client, wanted);
      return { id, cancelled: Number(await client.cancelTask(id)) };
    }
    const found = await findWork(client, wanted);
    if (kind === 'submission' && 'submissionId' in found) {
      return { id: found.submissionId, cancelled: await client.cancelSubmission(found.submissionId) };
    }
    const id = 'taskGroupId' in found ? found.taskGroupId : wanted.toLowerCase();
    return { id, cancelled: kind === 'group' ? await client.cancelGroup(id) : await client.cancelSubmission(id) };
  });
  if (options.json === true) printJson({ id, cancelled });
  else
    print(
      cancelled === 0 ? 'Nothing to cancel: everything has its answer.' : `Cancelled ${cancelled} ${plural(cancelled, 'task')}.`,
    );
}

const plural = (count: number, word: string): string => (count === 1 ? word : `${word}s`);

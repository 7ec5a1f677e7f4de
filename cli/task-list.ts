import { InvalidArgumentError } from 'commander';

import { TASK_STATES, type TaskState } from '../contracts/states';
import { UserError } from '../local/machine/user-error';

import { parseCount, parseId, parseIdStart } from './arguments';
import { withClient } from './connection';
import { findSubmission } from './lookup';
import { addCommonOptions, failing, good, print, printJson, printTable, showDuration, showTime } from './output';

import type { Command } from 'commander';

import type { Client, TaskSummary, TasksOf } from '../sdk/index';
import type { CommonOptions } from './output';

interface ListOptions extends CommonOptions {
  submission?: string;
  group?: string;
  state?: TaskState[];
  limit: number;
}

const DEFAULT_LIMIT = 100;

/** `task list`: the tasks of a submission or a group. */
export function addTaskListCommand(task: Command): void {
  addCommonOptions(task.command('list').description('list the tasks of a submission or a task group'))
    .option('--submission <id>', 'of this submission; the first characters of its id are enough', parseIdStart)
    .option('--group <id>', 'of this task group', parseId)
    .option('--state <states>', `only those that are ${TASK_STATES.join(', ')}; several with commas`, parseStates)
    .option('--limit <count>', 'how many at most', parseCount, DEFAULT_LIMIT)
    .action((options: ListOptions) => list(options));
}

function parseStates(text: string): TaskState[] {
  return text.split(',').map((word) => {
    const state = TASK_STATES.find((known) => known === word.trim());
    if (state === undefined) throw new InvalidArgumentError(`a state is one of ${TASK_STATES.join(', ')}.`);
    return state;
  });
}

async function list(options: ListOptions): Promise<void> {
  const { tasks, isCut } = await withClient(options, async (client) => {
    const of = await ownerOf(client, options);
    return take(client.tasks(of, options.state === undefined ? {} : { states: options.state }), options.limit);
  });
  if (options.json === true) return printJson({ tasks });
  if (tasks.length === 0) return print('There are no such tasks.');
  printTable(
    ['ID', 'STATE', 'ATTEMPT', 'FUNCTION', 'ENDPOINT', 'TOOK', 'ANSWERED', 'WHY'],
    tasks.map((task) => [
      task.task_id,
      task.state,
      String(task.attempt),
      task.function_name,
      task.endpoint_name,
      tookOf(task),
      task.answered_at === null ? '' : showTime(task.answered_at),
      whyOf(task),
    ]),
    (cell, column) => (column === 1 ? paintTaskState(cell) : cell),
  );
  if (isCut) print(`... and more; --limit ${options.limit * 10} shows more of them.`);
}

async function ownerOf(client: Client, { submission, group }: ListOptions): Promise<TasksOf> {
  if ((submission === undefined) === (group === undefined)) throw new UserError('Give one of --submission and --group.');
  return group === undefined ? { submissionId: await findSubmission(client, submission ?? '') } : { taskGroupId: group };
}

async function take(all: AsyncGenerator<TaskSummary>, limit: number): Promise<{ tasks: TaskSummary[]; isCut: boolean }> {
  const tasks: TaskSummary[] = [];
  for await (const task of all) {
    if (tasks.length === limit) return { tasks, isCut: true };
    tasks.push(task);
  }
  return { tasks, isCut: false };
}

/** From the dispatch to the answer of the latest attempt. */
function tookOf({ dispatched_at: from, answered_at: to }: TaskSummary): string {
  return from === null || to === null ? '' : showDuration(Date.parse(to) - Date.parse(from));
}

function whyOf({ error, error_code: code, last_error: last, next_attempt_at: next, state }: TaskSummary): string {
  if (state === 'delayed') return `again at ${next === null ? 'once' : showTime(next)} after: ${last ?? 'a failure'}`;
  return error ?? code ?? '';
}

export function paintTaskState(state: string): string {
  if (/^(failed|expired|cancelled)/.test(state)) return failing(state);
  return state === 'succeeded' ? good(state) : state;
}

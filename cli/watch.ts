import { setTimeout as sleep } from 'node:timers/promises';

import { parseIdStart } from './arguments';
import { withClient } from './connection';
import { findWork } from './lookup';
import { addCommonOptions, print, showTime } from './output';
import { createBar, createMeter, printLine, type OnProgress, type Progress } from './progress';

import { UserError } from '../local/machine/user-error';

import type { Command } from 'commander';

import type { Client, SubmissionSummary, TasksOf } from '../sdk/index';
import type { CommonOptions } from './output';

/** `watch`: shows the progress of a task group, of a submission, or of all your open submissions, until they end. */

const WAIT_S = 5;
const POLL_MS = 500;
/** If there is no new answer for this long, the command says why. */
const QUIET_MS = 3_000;
const MAX_FAILURES = 10;
const MAX_SUBMISSIONS = 1_000;

export function addWatchCommand(program: Command): void {
  addCommonOptions(program.command('watch').description('show the progress of your work until it is done'))
    .argument('[id]', 'a task group or a submission (default: everything of yours that is open)', parseIdStart)
    .addHelpText('after', '\nExamples:\n  funcx watch\n  funcx watch 01a20d0e-44fc')
    .action((id: string | undefined, options: CommonOptions) =>
      withClient(options, (client) => watch(client, id, options.json === true)),
    );
}

async function watch(client: Client, id: string | undefined, asJson: boolean): Promise<void> {
  const onProgress = asJson ? printLine : createBar();
  const found = id === undefined ? undefined : await findWork(client, id);
  if (found !== undefined && 'taskId' in found)
    throw new UserError(
      `${id} is a task; "funcx task ${id} --wait 60" waits for it, and "watch" for a submission or a task group.`,
    );
  if (found !== undefined && 'taskGroupId' in found) await watchGroup(client, found.taskGroupId, onProgress);
  else if (found !== undefined) await watchSubmissions(client, [await client.submission(found.submissionId)], onProgress);
  else {
    const open = await client.submissions({ open: true, limit: MAX_SUBMISSIONS });
    if (open.length === 0 && !asJson) return print('You have no open submissions.');
    const ended = await watchSubmissions(client, open, onProgress);
    if (asJson) return;
    for (const { submission_id: one } of ended.filter(({ failed, expired, cancelled }) => failed + expired + cancelled > 0))
      await printFailures(client, { submissionId: one });
    return;
  }
  if (!asJson) await printFailures(client, found);
}

/** Calls `onProgress` after each poll. The last call has `isLast`. */
export async function watchGroup(client: Client, group: string, onProgress: OnProgress): Promise<void> {
  const progress: Progress = { total: (await client.groupTaskIds(group)).length, done: 0, failed: 0, rate: 0 };
  const meter = createMeter();
  let cursor = 0;
  let isFirst = true;
  onProgress(progress, false);
  for (;;) {
    const { results, next } = await client.groupResults(group, { after: cursor, waitS: isFirst ? 0 : WAIT_S });
    cursor = next;
    progress.done += results.length;
    progress.failed += results.filter(({ status }) => status === 'failed').length;
    if (results.length === 0) isFirst = false;
    if (!isFirst) progress.rate = meter(progress.done, Date.now());
    if (progress.done >= progress.total) progress.total = (await client.groupTaskIds(group)).length; // it may have grown
    const isLast = progress.done >= progress.total;
    progress.note = results.length > 0 || isLast ? undefined : await whyQuiet(client, { taskGroupId: group });
    onProgress(progress, isLast);
    if (isLast) return;
  }
}

async function watchSubmissions(
  client: Client,
  open: readonly SubmissionSummary[],
  onProgress: OnProgress,
): Promise<SubmissionSummary[]> {
  let rows = [...open];
  const meter = createMeter();
  let changedMs = Date.now();
  let before = -1;
  for (;;) {
    const sum = (of: (row: SubmissionSummary) => number): number => rows.reduce((total, row) => total + of(row), 0);
    const done = sum(({ total, open: left }) => total - left);
    const failed = sum((row) => row.failed + row.expired + row.cancelled);
    const isLast = rows.every(({ open: left }) => left === 0);
    if (done !== before) changedMs = Date.now();
    before = done;
    const isQuiet = !isLast && Date.now() - changedMs >= QUIET_MS;
    const note = isQuiet ? await noteOf(client, rows) : undefined;
    onProgress({ total: sum(({ total }) => total), done, failed, rate: meter(done, Date.now()), note }, isLast);
    if (isLast) return rows;
    await sleep(POLL_MS);
    rows = await refresh(client, rows);
  }
}

/** Reads the open submissions again, many with one request. */
async function refresh(client: Client, rows: readonly SubmissionSummary[]): Promise<SubmissionSummary[]> {
  const open = rows.filter(({ open: left }) => left > 0);
  if (open.length === 1) {
    const [only] = open;
    const read = await client.submission(only!.submission_id); // there is one
    return rows.map((row) => (row === only ? read : row));
  }
  const listed = new Map(
    (await client.submissions({ open: true, limit: MAX_SUBMISSIONS })).map((row) => [row.submission_id, row]),
  );
  return Promise.all(
    rows.map(async (row) => (row.open === 0 ? row : (listed.get(row.submission_id) ?? client.submission(row.submission_id)))),
  );
}

async function whyQuiet(client: Client, of: { taskGroupId: string }): Promise<string | undefined> {
  return noteOf(client, await client.submissions({ ...of, open: true, limit: 20 }));
}

/** Says what the work waits for. Offline endpoints come first. */
async function noteOf(client: Client, rows: readonly SubmissionSummary[]): Promise<string | undefined> {
  const ids = [...new Set(rows.filter(({ open }) => open > 0).map(({ endpoint_id: id }) => id))].slice(0, 3);
  const states = await Promise.all(ids.map((id) => client.endpointState(id)));
  const offline = states.filter(({ status }) => status === 'offline');
  if (offline.length > 0) {
    return offline
      .map(({ name, since }) => `waiting for ${name}, offline${since === null ? '' : ` since ${timeOf(since)}`}`)
      .join('; ');
  }
  const full = states.find(({ waiting }) => waiting > 0);
  return full === undefined ? undefined : `${full.waiting} tasks wait for a free place on ${full.name}`;
}

const DAY_MS = 86_400_000;

/** `14:02` for a time in the last 12 hours, otherwise the date and the time. */
function timeOf(iso: string): string {
  const shown = showTime(iso);
  return Date.now() - Date.parse(iso) < DAY_MS / 2 ? shown.slice(11, 16) : shown;
}

async function printFailures(client: Client, of: TasksOf): Promise<void> {
  let shown = 0;
  for await (const task of client.tasks(of, { states: ['failed', 'expired', 'cancelled'] })) {
    if (shown++ === MAX_FAILURES) {
      const which = 'submissionId' in of ? `--submission ${of.submissionId}` : `--group ${of.taskGroupId}`;
      return print(`To list all failures: funcx task list ${which} --state failed,expired,cancelled`);
    }
    print(`${task.task_id}  ${task.state}  ${task.error ?? task.error_code ?? ''}`.trimEnd());
  }
}

import { parseId } from './arguments';
import { withClient } from './connection';
import { addCommonOptions, print } from './output';

import type { Command } from 'commander';

import type { Client } from '../sdk';
import type { CommonOptions } from './output';

/** `watch`: the progress of a task group, until every task of it has its answer. */

export interface Progress {
  total: number;
  done: number;
  /** Of those done. */
  failed: number;
  /** Answers a second, lately. */
  rate: number;
}

const WAIT_S = 10;
const BAR_WIDTH = 30;
/** The rate is that of answers within this time. */
const RATE_WINDOW_MS = 5_000;
const SHOW_EVERY_MS = 200;
/** Where lines can't be overwritten. */
const LOG_EVERY_MS = 2_000;

export function addWatchCommand(program: Command): void {
  addCommonOptions(program.command('watch').description('show the progress of a task group until it is done'))
    .argument('<group>', 'the task group', parseId)
    .action((group: string, options: CommonOptions) =>
      withClient(options, (client) => watch(client, group, options.json === true ? printLine : createBar())),
    );
}

/** Calls `onProgress` with every change; the last call says that it is the last. */
async function watch(client: Client, group: string, onProgress: (progress: Progress, isLast: boolean) => void): Promise<void> {
  const answers: { atMs: number; count: number }[] = [];
  const progress: Progress = { total: (await client.groupTaskIds(group)).length, done: 0, failed: 0, rate: 0 };
  let cursor = 0;
  let isFirst = true;
  onProgress(progress, false);
  for (;;) {
    const { results, next } = await client.groupResults(group, { after: cursor, waitS: isFirst ? 0 : WAIT_S });
    cursor = next;
    progress.done += results.length;
    progress.failed += results.filter(({ status }) => status === 'failed').length;
    // What was there before we looked says nothing of the rate.
    if (!isFirst && results.length > 0) answers.push({ atMs: Date.now(), count: results.length });
    if (results.length === 0) isFirst = false;
    progress.rate = rateOf(answers, Date.now());
    if (progress.done >= progress.total) progress.total = (await client.groupTaskIds(group)).length; // it may have grown
    const isLast = progress.done >= progress.total;
    onProgress(progress, isLast);
    if (isLast) return;
  }
}

function rateOf(answers: { atMs: number; count: number }[], nowMs: number): number {
  while (answers[0] !== undefined && answers[0].atMs < nowMs - RATE_WINDOW_MS) answers.shift();
  const [first] = answers;
  if (first === undefined || answers.length < 2) return 0;
  const count = answers.slice(1).reduce((sum, answer) => sum + answer.count, 0);
  return (count * 1000) / Math.max(1, nowMs - first.atMs);
}

function printLine(progress: Progress, isLast: boolean): void {
  print(JSON.stringify({ ...progress, rate: Number(progress.rate.toFixed(1)), finished: isLast }));
}

/** `[#####-----] 512/1000  51 %  230/s  2 failed` */
export function barOf({ total, done, failed, rate }: Progress): string {
  const part = total === 0 ? 1 : done / total;
  const filled = Math.min(BAR_WIDTH, Math.floor(part * BAR_WIDTH));
  const bar = '#'.repeat(filled) + '-'.repeat(BAR_WIDTH - filled);
  const left = rate > 0 && done < total ? `  ${Math.ceil((total - done) / rate)} s left` : '';
  const speed = rate > 0 ? `  ${rate < 10 ? rate.toFixed(1) : Math.round(rate)}/s` : '';
  return `[${bar}] ${done}/${total}  ${Math.floor(part * 100)} %${speed}${failed > 0 ? `  ${failed} failed` : ''}${left}`;
}

function createBar(): (progress: Progress, isLast: boolean) => void {
  const isTerminal = process.stdout.isTTY === true;
  let shownMs = 0;
  return (progress, isLast) => {
    const now = Date.now();
    if (!isLast && now - shownMs < (isTerminal ? SHOW_EVERY_MS : LOG_EVERY_MS)) return;
    shownMs = now;
    const ending = isTerminal && !isLast ? '' : '\n';
    // Back to the begin of the line, and the rest of it is cleared.
    process.stdout.write(`${isTerminal ? '\r\x1b[K' : ''}${barOf(progress)}${ending}`);
  };
}

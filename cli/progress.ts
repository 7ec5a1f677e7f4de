import { print } from './output';

/** Shows the progress of work: a bar in a terminal, lines in a log, JSON for programs. */

export interface Progress {
  total: number;
  done: number;
  /** How many of the tasks that are done failed, were cancelled or expired. */
  failed: number;
  /** Answers per second in the last seconds. */
  rate: number;
  /** Why nothing happens, such as `waiting for laptop, offline since 14:02`. */
  note?: string;
}

export type OnProgress = (progress: Progress, isLast: boolean) => void;

const BAR_WIDTH = 30;
/** The rate covers answers within this time. */
const RATE_WINDOW_MS = 5_000;
const SHOW_EVERY_MS = 200;
/** The same in a log, where lines cannot be overwritten. */
const LOG_EVERY_MS = 2_000;

/** Measures answers per second. Answers before the first call are not included. */
export function createMeter(): (done: number, nowMs: number) => number {
  const counts: { atMs: number; done: number }[] = [];
  return (done, nowMs) => {
    counts.push({ atMs: nowMs, done });
    while (counts.length > 2 && counts[1] !== undefined && counts[1].atMs < nowMs - RATE_WINDOW_MS) counts.shift();
    const [first] = counts;
    if (first === undefined || nowMs - first.atMs < 1 || done === first.done) return 0;
    return ((done - first.done) * 1_000) / (nowMs - first.atMs);
  };
}

export function printLine({ note, ...progress }: Progress, isLast: boolean): void {
  const shown = { ...progress, rate: Number(progress.rate.toFixed(1)), finished: isLast };
  print(JSON.stringify(note === undefined || isLast ? shown : { ...shown, note }));
}

/** `[#####-----] 512/1000  51 %  230/s  2 failed  2 s left` */
export function barOf({ total, done, failed, rate, note }: Progress): string {
  const percent = total === 0 ? 100 : Math.floor((done * 100) / total);
  const filled = total === 0 ? BAR_WIDTH : Math.min(BAR_WIDTH, Math.floor((done * BAR_WIDTH) / total));
  const bar = '#'.repeat(filled) + '-'.repeat(BAR_WIDTH - filled);
  const isMoving = rate > 0 && done < total;
  return [
    `[${bar}] ${done}/${total}`,
    `${percent} %`,
    ...(rate > 0 ? [`${rate < 10 ? rate.toFixed(1) : Math.round(rate)}/s`] : []),
    ...(failed > 0 ? [`${failed} failed`] : []),
    ...(isMoving ? [`${Math.ceil((total - done) / rate)} s left`] : []),
    ...(note !== undefined && done < total ? [note] : []),
  ].join('  ');
}

/** Writes to standard output, or to standard error if values are written to standard output. */
export function createBar(output: NodeJS.WriteStream = process.stdout): OnProgress {
  const isTerminal = output.isTTY;
  let shownMs = 0;
  let shown = '';
  return (progress, isLast) => {
    const now = Date.now();
    if (!isLast && now - shownMs < (isTerminal ? SHOW_EVERY_MS : LOG_EVERY_MS)) return;
    const line = barOf(progress);
    // A log has one line for each change.
    if (!isLast && !isTerminal && line === shown) return;
    shownMs = now;
    shown = line;
    // Return to the start of the line and clear it.
    output.write(`${isTerminal ? '\r\x1b[K' : ''}${line}${isTerminal && !isLast ? '' : '\n'}`);
  };
}

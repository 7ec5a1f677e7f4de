import type { FlowsClient, LogEntry, RunDocument } from './flows-client';

/** The steps of a run from its log: a tree with durations and bars for fan-outs, redrawn at each poll on a terminal. */

export interface Step {
  name: string;
  type: string;
  state: 'running' | 'done' | 'failed';
  startedMs: number;
  endedMs: number | undefined;
  /** The `Map` and `Parallel` states around the step, each with the number of its item or branch: `["Fan[3]"]`. */
  within: string[];
  /** Of a `Map` or `Parallel` state: how many items or branches it runs. */
  lines: number | undefined;
  error: string | undefined;
}

const MARKS = { running: '…', done: '✓', failed: '✗' } as const;
const POLL_MS = 500;
const MAX_SHOWN = 40;
/** A fan-out with more lines is drawn as a bar. */
const MAX_DRAWN_LINES = 8;
const BAR_CHARS = 20;

const stringOf = (value: unknown): string => (typeof value === 'string' ? value : '');

export function addEntries(steps: Step[], entries: readonly LogEntry[]): void {
  for (const { code, time, details } of entries) {
    const [, type, what] = /^([A-Za-z]+?)(Started|Completed|Failed)$/.exec(code) ?? [];
    const name = stringOf(details.state_name);
    if (type === undefined || what === undefined || type === 'Flow' || name === '') continue;
    const within = Array.isArray(details.within) ? details.within.map(String) : [];
    const lines = typeof details.lines === 'number' ? details.lines : undefined;
    const atMs = Date.parse(time);
    if (what === 'Started') {
      steps.push({ name, type, state: 'running', startedMs: atMs, endedMs: undefined, within, lines, error: undefined });
      continue;
    }
    const step = [...steps]
      .reverse()
      .find((one) => one.name === name && one.state === 'running' && one.within.join() === within.join());
    if (!step) continue;
    step.state = what === 'Completed' ? 'done' : 'failed';
    step.endedMs = atMs;
    if (what === 'Failed') step.error = stringOf(details.error) || stringOf(details.Error);
  }
}

interface Row {
  step: Step;
  depth: number;
  bar?: string;
}

/** Returns one row for each step. A fan-out has the steps of its lines below it, or a bar if it has many lines. */
function rowsOf(steps: readonly Step[], path: readonly string[] = []): Row[] {
  const rows: Row[] = [];
  const own = steps.filter(({ within }) => within.join() === path.join());
  own.forEach((step, at) => {
    const rest = steps.slice(steps.indexOf(step) + 1);
    // A loop may enter the same fan-out again.
    const again = own.slice(at + 1).find(({ name }) => name === step.name);
    const until = again ? rest.indexOf(again) : rest.length;
    const inside =
      step.lines === undefined ? [] : rest.slice(0, until).filter((one) => isWithin(one, path) && lineOf(one, path, step.name));
    if (step.lines === undefined || step.lines > MAX_DRAWN_LINES) {
      const bar = step.lines === undefined ? {} : { bar: barOf(step, step.lines, inside, path) };
      rows.push({ step, depth: path.length, ...bar });
      return;
    }
    rows.push({ step, depth: path.length });
    const lines = new Set(inside.map(({ within }) => within[path.length] ?? ''));
    for (const line of [...lines].sort((a, b) => numberOf(a) - numberOf(b))) rows.push(...rowsOf(inside, [...path, line]));
  });
  return rows;
}

const isWithin = ({ within }: Step, path: readonly string[]): boolean => path.every((one, at) => within[at] === one);
const lineOf = ({ within }: Step, path: readonly string[], name: string): boolean =>
  within[path.length]?.replace(/\[\d+\]$/, '') === name;
const numberOf = (line: string): number => Number(/\[(\d+)\]$/.exec(line)?.[1] ?? 0);

/** Draws how many of the lines have ended: the last step of such a line is not running. */
function barOf({ state }: Step, total: number, inside: readonly Step[], path: readonly string[]): string {
  const last = new Map<string, Step>();
  for (const step of inside) last.set(step.within[path.length] ?? '', step);
  const ended = state === 'done' ? total : [...last.values()].filter((step) => step.state !== 'running').length;
  const filled = Math.floor((ended / Math.max(total, 1)) * BAR_CHARS);
  return `${'█'.repeat(filled)}${'░'.repeat(BAR_CHARS - filled)} ${ended}/${total}`;
}

export function drawSteps(steps: readonly Step[], nowMs: number): string[] {
  const all = rowsOf(steps);
  const shown = all.slice(-MAX_SHOWN);
  const labelOf = ({ step, depth }: Row): string =>
    `${'  '.repeat(depth)}${depth > 0 ? `${numberOf(step.within.at(-1) ?? '')} ` : ''}${step.name}`;
  const width = Math.max(4, ...shown.map((row) => labelOf(row).length));
  const lines = shown.map((row, index) => {
    const { step, bar } = row;
    const branch = index === shown.length - 1 ? '└' : '├';
    const took = showSeconds((step.endedMs ?? nowMs) - step.startedMs).padStart(8);
    const more = [bar, step.error].filter(Boolean).map((text) => `  ${text}`);
    return `${branch} ${MARKS[step.state]} ${labelOf(row).padEnd(width)}  ${step.type.padEnd(14)} ${took}${more.join('')}`;
  });
  return all.length > MAX_SHOWN ? [`├ ${all.length - MAX_SHOWN} earlier steps`, ...lines] : lines;
}

export const showSeconds = (ms: number): string => `${(Math.max(0, ms) / 1_000).toFixed(1)} s`;

export function drawRun(run: RunDocument, steps: readonly Step[], nowMs: number): string[] {
  const end = run.completion_time === null ? nowMs : Date.parse(run.completion_time);
  const took = showSeconds(end - Date.parse(run.start_time));
  return [`${run.flow_title}  run ${run.run_id}  ${run.status}  ${took}`, ...drawSteps(steps, nowMs)];
}

export const isOver = ({ status }: RunDocument): boolean => status !== 'ACTIVE';

/** Polls until the run has ended or `signal` aborts. Calls `show` after each poll. */
export async function followRun(
  flows: FlowsClient,
  id: string,
  show: (run: RunDocument, steps: readonly Step[]) => void,
  signal?: AbortSignal,
): Promise<RunDocument> {
  const steps: Step[] = [];
  for (let marker = 0; ;) {
    const run = await flows.run(id); // before the log, so that the log of a run that has ended is complete
    for (;;) {
      const { entries, next } = await flows.log(id, marker);
      if (entries.length === 0) break;
      marker = next;
      addEntries(steps, entries);
    }
    show(run, steps);
    if (isOver(run) || signal?.aborted === true) return run;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** On a terminal, redraws the tree in place. Elsewhere, writes one line for each step that ends. */
export function createRunView(): (run: RunDocument, steps: readonly Step[]) => void {
  let drawn = 0;
  const written = new Set<Step>();
  return (run, steps) => {
    if (process.stderr.isTTY) {
      const lines = drawRun(run, steps, Date.now());
      const up = drawn > 0 ? `\x1b[${drawn}A\x1b[J` : '';
      process.stderr.write(`${up}${lines.join('\n')}\n`);
      drawn = lines.length;
      return;
    }
    for (const step of steps) {
      if (step.state === 'running' || written.has(step)) continue;
      written.add(step);
      const alone: Step = { ...step, name: [...step.within, step.name].join(' / '), within: [] };
      process.stderr.write(`${drawSteps([alone], Date.now())[0]?.slice(2) ?? ''}\n`);
    }
  };
}

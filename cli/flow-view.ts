import type { FlowsClient, LogEntry, RunDocument } from './flows-client';

/** The steps of a run from its log: a tree with durations, drawn again at each change on a terminal. */

export interface Step {
  name: string;
  type: string;
  state: 'running' | 'done' | 'failed';
  startedMs: number;
  endedMs: number | undefined;
  /** Where the step is a part of a `Map` or `Parallel` state: the names above it. */
  within: string[];
  error: string | undefined;
}

const MARKS = { running: '…', done: '✓', failed: '✗' } as const;
const POLL_MS = 500;
const MAX_SHOWN = 40;

const stringOf = (value: unknown): string => (typeof value === 'string' ? value : '');

/** Adds what the entries say. */
export function addEntries(steps: Step[], entries: readonly LogEntry[]): void {
  for (const { code, time, details } of entries) {
    const [, type, what] = /^([A-Za-z]+?)(Started|Completed|Failed)$/.exec(code) ?? [];
    const name = stringOf(details.state_name);
    if (type === undefined || what === undefined || type === 'Flow' || name === '') continue;
    const within = Array.isArray(details.within) ? details.within.map(String) : [];
    const atMs = Date.parse(time);
    if (what === 'Started') {
      steps.push({ name, type, state: 'running', startedMs: atMs, endedMs: undefined, within, error: undefined });
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

export function drawSteps(steps: readonly Step[], nowMs: number): string[] {
  const shown = steps.slice(-MAX_SHOWN);
  const width = Math.max(4, ...shown.map(({ name, within }) => name.length + 2 * within.length));
  const lines = shown.map((step, index) => {
    const branch = index === shown.length - 1 ? '└' : '├';
    const name = `${'  '.repeat(step.within.length)}${step.name}`.padEnd(width);
    const took = showSeconds((step.endedMs ?? nowMs) - step.startedMs).padStart(8);
    return `${branch} ${MARKS[step.state]} ${name}  ${step.type.padEnd(14)} ${took}${step.error ? `  ${step.error}` : ''}`;
  });
  return steps.length > MAX_SHOWN ? [`├ ${steps.length - MAX_SHOWN} earlier steps`, ...lines] : lines;
}

export const showSeconds = (ms: number): string => `${(Math.max(0, ms) / 1_000).toFixed(1)} s`;

export function drawRun(run: RunDocument, steps: readonly Step[], nowMs: number): string[] {
  const end = run.completion_time === null ? nowMs : Date.parse(run.completion_time);
  const took = showSeconds(end - Date.parse(run.start_time));
  return [`${run.flow_title}  run ${run.run_id}  ${run.status}  ${took}`, ...drawSteps(steps, nowMs)];
}

export const isOver = ({ status }: RunDocument): boolean => status !== 'ACTIVE';

/** Reads until the run is over or `signal` aborts; `show` gets every state that was seen. */
export async function followRun(
  flows: FlowsClient,
  id: string,
  show: (run: RunDocument, steps: readonly Step[]) => void,
  signal?: AbortSignal,
): Promise<RunDocument> {
  const steps: Step[] = [];
  for (let marker = 0; ;) {
    const run = await flows.run(id); // before the log, so that the log of a run that is over is whole
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

/** On a terminal the tree is drawn over itself; elsewhere each step that ends is one line. */
export function createRunView(): (run: RunDocument, steps: readonly Step[]) => void {
  let drawn = 0;
  let told = 0;
  return (run, steps) => {
    if (process.stderr.isTTY) {
      const lines = drawRun(run, steps, Date.now());
      const up = drawn > 0 ? `\x1b[${drawn}A\x1b[J` : '';
      process.stderr.write(`${up}${lines.join('\n')}\n`);
      drawn = lines.length;
      return;
    }
    const ended = steps.filter(({ state }) => state !== 'running');
    for (const step of ended.slice(told)) process.stderr.write(`${drawSteps([step], Date.now())[0]?.slice(2) ?? ''}\n`);
    told = ended.length;
  };
}

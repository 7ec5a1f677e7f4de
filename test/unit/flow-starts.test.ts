import { createFlowStarts, type FlowStarts } from '../../platform/flow-starts';
import { createCircuit } from '../../platform/circuit-breaker';
import { createLogger } from '../../platform/log';
import type { Temporal } from '../../platform/temporal';
import { startFlowSweep } from '../../workers/flow-sweep';
import { configFor, FakeDatabase } from '../helpers/api-harness';
import { until } from '../helpers/until';

/** The starts of flow runs while Temporal does not answer. */

const log = createLogger('flow-starts-test', 'silent');
const RUN = { runId: 'r', flowId: 'f', title: 't', ownerId: 'o', generation: 0 };
/** A few intervals of the sweep, on a busy machine. */
const SWEEP_MS = 10_000;

test('the start of a flow run that Temporal does not answer is left to the sweep after one short try', async () => {
  const deadlines: (number | undefined)[] = [];
  const temporal = {
    withDeadline: (_call: unknown, deadlineMs?: number) => {
      deadlines.push(deadlineMs);
      return Promise.reject(new Error('no answer'));
    },
  } as unknown as Temporal;
  const starts = createFlowStarts({ db: new FakeDatabase().asDatabase(), temporal, config: configFor(), log });
  await expect(starts.start(RUN)).resolves.toBe(false);
  expect(deadlines).toEqual([2_000]);
});

test('an open circuit fails the start of a flow run at once, until one start after the pause succeeds', async () => {
  let nowMs = 0;
  let isAway = true;
  let calls = 0;
  const circuit = createCircuit({ engine: 'Temporal', outages: 2, retryMs: 1_000, isOutage: () => true }, () => nowMs);
  const start = async (): Promise<void> => {
    calls++;
    if (isAway) throw new Error('no answer');
  };
  const temporal = { client: { workflow: { start } }, withDeadline: circuit } as unknown as Temporal;
  const marked: unknown[] = [];
  const db = new FakeDatabase().on('workflow_started_at = now()', (values) => {
    marked.push(values);
    return [];
  });
  const starts = createFlowStarts({ db: db.asDatabase(), temporal, config: configFor(), log });
  const startAll = (): Promise<boolean[]> => Promise.all([starts.start(RUN), starts.start(RUN)]);
  expect(await startAll()).toEqual([false, false]);
  expect(await startAll()).toEqual([false, false]);
  expect(calls).toBe(2);
  isAway = false;
  nowMs += 1_000;
  expect(await startAll()).toEqual([true, false]);
  expect(await startAll()).toEqual([true, true]);
  expect(marked).toEqual(Array(3).fill([RUN.runId, RUN.generation]));
});

const CANCELLED = 'was cancelled before its start';

/** Runs the sweep on these runs until `isDone`. Runs whose start succeeds are started. */
async function sweepUntil(
  isDone: () => boolean,
  { unstarted = [], cancelled = [], ...flowStarts }: Partial<FlowStarts> & { unstarted?: string[]; cancelled?: string[] },
): Promise<void> {
  const open = new Set(unstarted);
  const db = new FakeDatabase()
    .on('workflow_started_at is null', () => [...open].map((runId) => ({ ...RUN, runId, isCancelled: runId === CANCELLED })))
    .on('workflow_started_at is not null', () => cancelled.map((runId) => ({ runId, generation: 0 })));
  const sweep = startFlowSweep({
    db: db.asDatabase(),
    log,
    flowStarts: {
      cancel: flowStarts.cancel ?? (() => Promise.resolve(true)),
      listEndedAbnormally: () => Promise.resolve([]),
      start: async (run) => {
        const isStarted = (await flowStarts.start?.(run)) ?? true;
        if (isStarted) open.delete(run.runId);
        return isStarted;
      },
    },
  });
  await until('the sweep has done its work', isDone, { deadlineMs: SWEEP_MS });
  await sweep.close();
}

test(
  'the sweep starts several flow runs at a time, and one that hangs keeps no other from its start',
  async () => {
    const started: string[] = [];
    let end: () => void = () => undefined;
    const hanging = new Promise<void>((resolve) => (end = resolve));
    await sweepUntil(() => started.length >= 3, {
      unstarted: ['hangs', 'b', 'c'],
      start: async ({ runId }) => {
        started.push(runId);
        if (started.length === 3) end();
        if (runId === 'hangs') await hanging;
        return true;
      },
    });
    expect(started.sort()).toEqual(['b', 'c', 'hangs']);
  },
  SWEEP_MS,
);

test(
  'one sweep starts all flow runs although the circuit lets only the first start through',
  async () => {
    const started = new Map<string, number>();
    let isClosed = false;
    let tries = 0;
    await sweepUntil(() => started.size === 40, {
      unstarted: Array.from({ length: 41 }, (_, n) => `run ${n}`),
      start: async ({ runId }) => {
        if (runId === 'run 7') return false; // is refused each time
        if (!isClosed && tries++ > 0) return false;
        await new Promise((resolve) => setTimeout(resolve, 10));
        isClosed = true;
        started.set(runId, performance.now());
        return true;
      },
    });
    const atMs = [...started.values()];
    expect(Math.max(...atMs) - Math.min(...atMs)).toBeLessThan(1_500); // the next sweep comes after 2 s
  },
  SWEEP_MS,
);

test(
  'a flow run that was cancelled before its start is cancelled as soon as it is started',
  async () => {
    const calls: string[] = [];
    await sweepUntil(() => calls.length >= 2, {
      unstarted: [CANCELLED],
      start: async () => calls.push('start') > 0,
      cancel: async (runId) => calls.push(runId) > 0,
    });
    expect(calls).toEqual(['start', CANCELLED]);
  },
  SWEEP_MS,
);

test(
  'the sweep cancels a flow run again whose cancellation failed',
  async () => {
    const asked: string[] = [];
    await sweepUntil(() => asked.length === 4, {
      cancelled: ['a', 'b'],
      cancel: async (runId) => {
        asked.push(runId);
        throw new Error('no answer');
      },
    });
    expect(asked).toEqual(['a', 'b', 'a', 'b']);
  },
  SWEEP_MS,
);

import { createFlowStarts, type FlowStarts } from '../../platform/flow-starts';
import { createLogger } from '../../platform/log';
import type { Temporal } from '../../platform/temporal';
import { startFlowSweep } from '../../workers/flow-sweep';
import { configFor, FakeDatabase } from '../helpers/api-harness';

/** The starts of flow runs while Temporal does not answer. */

const log = createLogger('flow-starts-test', 'silent');
const RUN = { runId: 'r', flowId: 'f', title: 't', ownerId: 'o', generation: 0 };
/** One interval of the sweep, on a busy machine. */
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

test(
  'the sweep starts several flow runs at a time, and one that hangs or fails keeps no other from its start',
  async () => {
    const db = new FakeDatabase().on(
      'workflow_started_at is null',
      ['hangs', 'is not cancelled', 'c', 'd'].map((runId) => ({ ...RUN, runId, isCancelled: runId === 'is not cancelled' })),
    );
    const started: string[] = [];
    const hung = { end: (): void => undefined };
    const sweep = await new Promise<{ close(): Promise<void> }>((resolve) => {
      const flowStarts: FlowStarts = {
        async start({ runId }) {
          started.push(runId);
          if (started.length === 4) resolve(running);
          if (runId === 'hangs') await new Promise<void>((end) => (hung.end = end));
          return true;
        },
        cancel: () => Promise.reject(new Error('no answer')),
        listEndedAbnormally: () => Promise.resolve([]),
      };
      const running = startFlowSweep({ db: db.asDatabase(), log, flowStarts });
    });
    expect(started).toEqual(['hangs', 'is not cancelled', 'c', 'd']);
    const closed = sweep.close();
    hung.end();
    await closed;
  },
  SWEEP_MS,
);

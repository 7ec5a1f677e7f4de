import type { ActivityDeps } from '../../activities';
import { createCancel } from '../../api/cancel';
import { FakeDatabase } from '../helpers/api-harness';

const SUBMISSIONS = 200;
const MAX_CONCURRENT = 32;

test('cancelling a task group cancels every workflow once, and a bounded number at the same time', async () => {
  const db = new FakeDatabase().on(
    'task_group_id = $1',
    Array.from({ length: SUBMISSIONS }, (_, n) => ({
      id: `${n}`,
      isShared: false,
      workflowId: `w${n}`,
      endpointQueueId: 'q',
      open: 2,
    })),
  );
  const cancelled: string[] = [];
  let [running, most] = [0, 0];
  const temporal = {
    async cancelSubmission(workflowId: string) {
      cancelled.push(workflowId);
      most = Math.max(most, ++running);
      await new Promise((resolve) => setImmediate(resolve));
      running--;
      return true;
    },
  };
  const cancel = createCancel({ db, temporal } as unknown as ActivityDeps);
  expect(await cancel({ taskGroupId: 'g' })).toEqual({ cancelled: 2 * SUBMISSIONS });
  expect(new Set(cancelled).size).toBe(SUBMISSIONS);
  expect(cancelled).toHaveLength(SUBMISSIONS);
  expect(most).toBeLessThanOrEqual(MAX_CONCURRENT);
  expect(most).toBeGreaterThan(1);
});

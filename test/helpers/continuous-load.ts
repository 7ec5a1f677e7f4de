import type { Pool } from 'pg';

import { Executor, javascript, type Client } from '../../sdk';
import { printFigure } from './figures';
import { until } from './until';

/** Calls without end, and how long their answers stay away while a test disturbs the system. */

const EXPLAINED_GAP_MS = 1_500;

/** What the store says of a time without answers, so that a failure explains itself. */
async function describeStandstill(store: Pool, sinceMs: number): Promise<string> {
  const { rows } = await store.query<{ line: string }>(
    `select format('%s %s: %s, attempt %s, claim %s, dispatched %s s ago', t.state, t.task_group_id, count(*), max(t.attempt), max(t.claim_id),
                   round(extract(epoch from now() - max(t.dispatched_at))::numeric, 2)) as line
       from tasks t where t.answered_at is null group by t.state, t.task_group_id
     union all
     select format('queue: online %s, in flight %s of %s, pump %s', is_online, in_flight, window_size, pump_alive_at) from endpoint_queues`,
  );
  return `${Date.now() - sinceMs} ms without an answer:\n${rows.map(({ line }) => `    ${line}`).join('\n')}`;
}

export interface Load {
  /** The longest time without an answer since the last question, or until now. */
  longestGapMs(): number;
  answersComeAfter(sinceMs: number): Promise<unknown>;
  stop(): Promise<{ sent: number; wrong: number; groupId: string }>;
  /** Ends it without waiting for the answers: in a test that failed they may never come, and the process would not exit. */
  abandon(): Promise<void>;
}

export function startLoad({ client, store, endpointId }: { client: Client; store: Pool; endpointId: string }): Load {
  const executor = new Executor({ client, endpointId, batchSize: 20 });
  const echo = javascript<number>('(n) => n');
  let isStopped = false;
  let [sent, wrong, lastMs, longestMs] = [0, 0, Date.now(), 0];
  const watch = setInterval(() => {
    if (Date.now() - lastMs > EXPLAINED_GAP_MS) void describeStandstill(store, lastMs).then(printFigure, () => undefined);
  }, 250);
  const calls = (async () => {
    while (!isStopped) {
      const numbers = Array.from({ length: 100 }, () => sent++);
      const values = await Promise.all(
        executor.map(echo, numbers).map(async (future) => {
          const value = await future;
          longestMs = Math.max(longestMs, Date.now() - lastMs);
          lastMs = Date.now();
          return value;
        }),
      );
      values.forEach((value, index) => (wrong += value === numbers[index] ? 0 : 1));
    }
    clearInterval(watch);
    await executor.close();
    return { sent, wrong, groupId: executor.taskGroupId };
  })();
  calls.catch(() => undefined); // its caller awaits it, unless the test failed before
  return {
    longestGapMs: () => {
      const longest = Math.max(longestMs, Date.now() - lastMs);
      longestMs = 0;
      return longest;
    },
    answersComeAfter: (sinceMs: number) => until('answers come', () => lastMs > sinceMs, { deadlineMs: 120_000 }),
    stop: () => {
      isStopped = true;
      clearInterval(watch);
      return calls;
    },
    abandon: async () => {
      isStopped = true;
      clearInterval(watch);
      await executor.close({ wait: false });
    },
  };
}

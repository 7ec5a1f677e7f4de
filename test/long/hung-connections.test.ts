import type { Pool } from 'pg';

import { signal } from '../helpers/engine-faults';
import { Http, localEndpoint, openStore, state } from '../helpers/system';
import { until } from '../helpers/until';

/**
 * Every connection of the pools hangs, as after a failover whose old server sends no reset, while a new connection would
 * work. A process must say that it is not ready, and find its way to connections that work.
 */

/** As many requests at once open every connection of the pool of `api`, and they stay open for some seconds. */
const REQUESTS = 40;
/** Shorter than what clients wait for: 60 s. */
const ANSWERED_WITHIN_MS = 25_000;

const http = new Http();
let store: Pool;
let stopped: number[] = [];
beforeAll(() => {
  store = openStore();
});
afterEach(() => stopped.forEach((pid) => signal(pid, 'SIGCONT')));
afterAll(() => store.end());

/** Stops the backends that serve the pools of `api` and `workers`, and nothing else. */
async function hangPools(): Promise<void> {
  const { rows } = await store.query<{ pid: number }>(
    `select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
        and backend_type = 'client backend'`,
  );
  stopped = rows.map(({ pid }) => pid);
  stopped.forEach((pid) => signal(pid, 'SIGSTOP'));
}

async function isReady(): Promise<boolean> {
  const response = await fetch(`http://127.0.0.1:${state().ports.api}/readyz`, { signal: AbortSignal.timeout(5_000) });
  return response.ok;
}

test('with hung connections to PostgreSQL the API is not ready, and a submit is answered over connections that work', async () => {
  const same = await http.register('same', '(n) => n', 'javascript');
  await http.token();
  await Promise.all(Array.from({ length: REQUESTS }, () => http.ok('GET', '/v2/endpoints')));
  await hangPools();
  const submitted = http.submit(localEndpoint(), same, [[42]]).then(
    ({ taskIds }) => taskIds[0]!,
    (error: unknown) => error as Error,
  );
  const timeout = new Promise<'no answer'>((resolve) => setTimeout(() => resolve('no answer'), ANSWERED_WITHIN_MS).unref());
  // Asked from the start. It may be said a moment after the refusal: both wait for connections that hang.
  const wasUnready = until('the API says that it is not ready', async () => !(await isReady().catch(() => false)), {
    deadlineMs: ANSWERED_WITHIN_MS,
  });
  wasUnready.catch(() => undefined);
  const answer = await Promise.race([submitted, timeout]);
  expect(answer).not.toBe('no answer');
  // Accepted, or refused in a way that clients repeat: never a silence behind a readiness that says all is well.
  if (answer instanceof Error) expect(answer.message).toMatch(/ 503 /);
  await wasUnready;
  await until('the API is ready over new connections', isReady, { deadlineMs: 60_000 });
  const taskId = await http.submitOne(localEndpoint(), same, [43]);
  expect(await http.value(taskId, 60_000)).toBe(43);
}, 180_000);

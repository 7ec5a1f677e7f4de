import { Agent, request } from 'node:http';

import { ApiProcess } from '../helpers/api-process';
import { until } from '../helpers/until';

/** The end of an `api` behind a load balancer that asks `/readyz`. */

const DELAY_MS = 1_500;

/** The status, by default over a connection of its own; rejects when the connection is refused. */
function ask(url: string, agent: Agent | false = false): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const asked = request(url, { agent }, (response) => {
      response.resume();
      resolve(response.statusCode);
    });
    asked.once('error', reject);
    asked.end();
  });
}

test('after SIGTERM, an API is no longer ready, and refuses no connection until balancers have noticed', async () => {
  const api = await ApiProcess.start({ FUNCX_STOP_DELAY_S: String(DELAY_MS / 1_000) });
  try {
    let isGone = false;
    const askedMs = Date.now();
    const stopped = api.stop().then(() => (isGone = true));
    await until('the API is not ready', async () => (await ask(`${api.apiUrl}/readyz`)) === 503, { everyMs: 5 });
    const noticedMs = Date.now() - askedMs;
    expect(noticedMs).toBeLessThan(DELAY_MS / 2); // the balancer has the rest of the delay to ask again
    let servedMs = 0;
    let refusal: unknown;
    while (refusal === undefined && !isGone) {
      try {
        expect(await ask(`${api.apiUrl}/v2/version`)).toBe(200);
        servedMs = Date.now() - askedMs;
      } catch (error) {
        refusal = error;
      }
    }
    expect(servedMs).toBeGreaterThanOrEqual(DELAY_MS - 100);
    expect(refusal).toMatchObject({ code: expect.stringMatching(/ECONNREFUSED|ECONNRESET/) });
    await stopped;
  } finally {
    await api.stop();
  }
});

test('clients that send one request after another over their connections do not hold up the end of an API', async () => {
  const api = await ApiProcess.start();
  const agent = new Agent({ keepAlive: true, maxSockets: 4 });
  try {
    let isStopping = false;
    const refusals: unknown[] = [];
    const ends = Array.from({ length: 4 }, async () => {
      for (;;) {
        try {
          expect(await ask(`${api.apiUrl}/v2/version`, agent)).toBe(200);
        } catch (error) {
          if (!isStopping) throw error;
          return refusals.push(error);
        }
      }
    });
    await until('every connection is in use', () => Object.values(agent.sockets).flat().length === 4, { everyMs: 1 });
    isStopping = true;
    await api.stop();
    expect(api.exitCode).toBe(0); // 1 after the deadline of the shutdown
    await Promise.all(ends);
    expect(refusals).toHaveLength(4);
    for (const refusal of refusals) expect(refusal).toMatchObject({ code: expect.stringMatching(/ECONNREFUSED|ECONNRESET/) });
  } finally {
    agent.destroy();
    await api.stop();
  }
}, 60_000);

import { request } from 'node:http';

import { ApiProcess } from '../helpers/api-process';
import { until } from '../helpers/until';

/** The end of an `api` behind a load balancer that asks `/readyz`. */

const DELAY_MS = 1_500;

/** The status, over a connection of its own; rejects when the connection is refused. */
function ask(url: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const asked = request(url, { agent: false }, (response) => {
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

import type { AddressInfo } from 'node:net';

import { startHealthServer } from '../../workers/health-server';

test('the metrics of workers are for administrators, and its health is for everybody', async () => {
  const refusals: (string | undefined)[] = [];
  const server = await startHealthServer(
    { host: '127.0.0.1', port: 0 },
    async () => ({}),
    async (token) => token === 'root',
    (address) => refusals.push(address),
  );
  const { port } = server.address() as AddressInfo;
  const ask = (path: string, authorization?: string) =>
    fetch(`http://127.0.0.1:${port}${path}`, authorization === undefined ? {} : { headers: { authorization } });
  for (const authorization of [undefined, 'Bearer alice', 'Basic root']) {
    const refused = await ask('/metrics', authorization);
    expect([refused.status, ((await refused.json()) as { code: string }).code]).toEqual([401, 'UNAUTHENTICATED']);
  }
  expect(refusals).toEqual(['127.0.0.1', '127.0.0.1', '127.0.0.1']);
  expect((await ask('/metrics', 'Bearer root')).status).toBe(200);
  expect((await ask('/healthz')).status).toBe(200);
  server.close();
});

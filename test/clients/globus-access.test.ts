import { randomUUID } from 'node:crypto';

import { globusVenv, StockClient, StockEndpoint } from '../helpers/stock-globus';
import { Agent, Http, type Credentials } from '../helpers/system';
import { until } from '../helpers/until';

/** Who may do what, as the stock clients show it: the status, the code and the sentence of a refusal. */

interface Outcome {
  function_id: string;
  value?: number;
  error?: string;
  status?: number;
  code?: string;
  allowed: { value?: { restricted: boolean; functions: string[] }; status?: number; code?: string };
  function: { value?: string; status?: number; code?: string };
}

let alice: StockClient;
let bob: StockClient;
let groupId: string;
/** An endpoint that everybody may use. */
let open: Agent;

beforeAll(async () => {
  const bin = await globusVenv();
  alice = new StockClient(bin);
  const http = new Http();
  const made = (await http.ok('POST', '/v1/identities', { name: `bob-${randomUUID()}` })) as Credentials;
  bob = new StockClient(bin, made);
  groupId = (await http.ok('POST', '/v1/groups', { name: `team-${randomUUID()}` })).id as string;
  await http.ok('POST', `/v1/groups/${groupId}/members`, { identity: made.client_id });
  open = await new Agent('open', { FUNCX_ENDPOINT_PUBLIC: '1' }).start();
}, 300_000);
afterAll(() => open?.stop());

const call = async (who: StockClient, endpointId: string, functionId = '-', options: object = {}): Promise<Outcome> =>
  (await who.script('call.py', [endpointId, functionId, JSON.stringify(options)], { timeoutMs: 110_000 })) as Outcome;

describe('a second identity', () => {
  test('may use a public function, and one of a group that it belongs to', async () => {
    for (const options of [{ public: true }, { group: groupId }]) {
      const { function_id: shared } = await call(alice, open.id, '-', options);
      expect(await call(bob, open.id, shared)).toMatchObject({ value: 42, function: { value: 'add' } });
    }
  });

  test('may neither use nor see a private function', async () => {
    const { function_id: secret, value } = await call(alice, open.id);
    expect(value).toBe(42);
    expect(await call(bob, open.id, secret)).toMatchObject({
      status: 403,
      code: 'FORBIDDEN',
      error: expect.stringContaining(`you may not use function ${secret}`),
      function: { status: 404, code: 'FUNCTION_NOT_FOUND' },
    });
  });

  test('may neither use nor see a private endpoint', async () => {
    const endpoint = await new StockEndpoint(alice, 'private').configure();
    await endpoint.start();
    try {
      expect(await call(alice, endpoint.id)).toMatchObject({ value: 42, allowed: { value: { restricted: false } } });
      expect(await call(bob, endpoint.id)).toMatchObject({
        status: 403,
        code: 'FORBIDDEN',
        error: expect.stringContaining(`you may not use endpoint ${endpoint.id}`),
        allowed: { status: 404, code: 'ENDPOINT_NOT_FOUND' },
      });
    } finally {
      await endpoint.stop();
    }
  });

  test('is told by a public endpoint without identity mapping that it is not trusted', async () => {
    const endpoint = await new StockEndpoint(alice, 'public').configure('public: true\n');
    await endpoint.start();
    try {
      expect((await call(bob, endpoint.id)).error).toContain('Ignoring start request for untrusted identity');
      expect(await call(alice, endpoint.id)).toMatchObject({ value: 42 });
    } finally {
      await endpoint.stop();
    }
  });
});

describe('a stock endpoint', () => {
  test('that allows some functions runs these and no other', async () => {
    const { function_id: allowed } = await call(alice, open.id);
    const endpoint = await new StockEndpoint(alice, 'allowed').configure(`allowed_functions:\n  - ${allowed}\n`);
    await endpoint.start();
    try {
      const restricted = { restricted: true, functions: [allowed] };
      expect(await call(alice, endpoint.id, allowed)).toMatchObject({ value: 42, allowed: { value: restricted } });
      const other = await call(alice, endpoint.id);
      expect(other).toMatchObject({ status: 403, code: 'FORBIDDEN', error: expect.stringContaining(other.function_id) });
    } finally {
      await endpoint.stop();
    }
  });

  test('that was stopped remotely is locked for a moment, and starts again after it', async () => {
    const endpoint = await new StockEndpoint(alice, 'locked').configure();
    await endpoint.start();
    const run = (...args: string[]): ReturnType<StockClient['run']> => alice.run('globus-compute-endpoint', args);
    expect((await run('stop', '--remote', 'locked')).status).toBe(0);
    await endpoint.untilExit();
    const { status, stdout, stderr } = await run('start', 'locked');
    expect(status).toBe(69);
    expect(stdout + stderr).toMatch(/ENDPOINT_LOCKED[\s\S]*start it again in \d+ s/);
    await until('it may start again', async () => (await run('start', '--detach', 'locked')).status === 0, { everyMs: 1_000 });
    try {
      await endpoint.untilStatus('online');
      expect(await call(alice, endpoint.id)).toMatchObject({ value: 42 });
    } finally {
      await run('stop', 'locked');
    }
  });
});

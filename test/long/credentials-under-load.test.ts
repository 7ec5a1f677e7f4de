import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';

import { connect } from 'amqplib';

import { globusVenv, StockClient, StockEndpoint } from '../helpers/stock-globus';
import { Agent, Http, state, type Credentials } from '../helpers/system';
import { until } from '../helpers/until';

/**
 * Credentials of the broker that were replaced or revoked while tasks flow: nobody connects with them after 10 s, and every
 * accepted task has its answer. The test registers in the place of the agent, and so has credentials that the next
 * registration of the agent replaces.
 */

const DEAD_WITHIN_MS = 10_000;
const PAUSE_MS = 100;
const TASKS_AT_A_TIME = 5;
const TIMEOUT_MS = 300_000;

const admin = new Http();
/** What may still run when a test fails in the middle. */
const agents: Agent[] = [];
afterAll(() => Promise.all(agents.map((agent) => agent.stop())));

async function makeTenant(name: string): Promise<{ http: Http; credentials: Credentials }> {
  const credentials = (await admin.ok('POST', '/v1/identities', { name: `${name}-${randomUUID()}` })) as Credentials;
  return { http: new Http(credentials), credentials };
}

async function connects(url: string): Promise<boolean> {
  const ca = state().ca_file;
  try {
    const model = await connect(url, ca === null ? {} : { ca: [readFileSync(ca)] });
    await model.close();
    return true;
  } catch (error) {
    if (/ACCESS[-_]REFUSED|403/.test(String(error))) return false;
    throw error;
  }
}

const untilDead = (what: string, url: string): Promise<unknown> =>
  until(`${what} are refused`, async () => !(await connects(url)), { deadlineMs: DEAD_WITHIN_MS });

/** Submits tasks until it is stopped; then every one must have the right value. */
function startLoad(http: Http, endpointId: string, functionId: string): { finish: () => Promise<number> } {
  const submitted: { id: string; n: number }[] = [];
  let isOver = false;
  const running = (async () => {
    for (let n = 0; !isOver; n += TASKS_AT_A_TIME) {
      const numbers = Array.from({ length: TASKS_AT_A_TIME }, (_, index) => n + index);
      const { taskIds } = await http.submit(
        endpointId,
        functionId,
        numbers.map((number) => [number]),
      );
      submitted.push(...taskIds.map((id, index) => ({ id, n: n + index })));
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  })();
  running.catch(() => undefined); // `finish` rejects with it
  return {
    async finish() {
      isOver = true;
      await running;
      for (const { id, n } of submitted) expect(await http.value(id, TIMEOUT_MS)).toBe(2 * n);
      return submitted.length;
    },
  };
}

test(
  'with our agent, replaced and revoked credentials die in time and no task is lost',
  async () => {
    const { http, credentials } = await makeTenant('tenant');
    const agent = await new Agent('renewed', {}, credentials).start();
    agents.push(agent);
    const standIn = { name: agent.name, workers: 1, metadata: {} };
    const registered = async (as: Http, id: string): Promise<string> => {
      const body = { ...standIn, incarnation: randomUUID(), replace: true };
      return (await as.ok('PUT', `/v1/endpoints/${id}`, body)).broker.url as string;
    };
    const double = await http.register('double', '(n) => 2 * n', 'javascript');
    await agent.stop();
    const first = await registered(http, agent.id);
    expect(await connects(first)).toBe(true);
    const load = startLoad(http, agent.id, double);

    await agent.start();
    await untilDead('credentials before a start of the agent', first);
    await agent.stop('SIGKILL');
    const second = await registered(http, agent.id);
    await agent.start();
    await untilDead('credentials before a start after a kill', second);

    const token = await http.ok('POST', '/v1/tokens', { name: 'ci', scopes: ['endpoints'], expires_in: 3_600 });
    const { body } = await http.request(
      'PUT',
      `/v1/endpoints/${randomUUID()}`,
      { ...standIn, name: 'of-token', incarnation: randomUUID() },
      { authorization: `Bearer ${token.token as string}` },
    );
    const ofToken = body.broker.url as string;
    expect(await connects(ofToken)).toBe(true);
    await http.ok('DELETE', `/v1/tokens/${token.token_id as string}`);
    await untilDead('credentials of a revoked API token', ofToken);

    const guest = await makeTenant('guest');
    const ofGuest = await registered(guest.http, randomUUID());
    const results = (await guest.http.ok('GET', '/v2/get_amqp_result_connection_url')).connection_url as string;
    await admin.ok('DELETE', `/v1/identities/${guest.credentials.client_id}`);
    await untilDead('credentials of the agent of a revoked identity', ofGuest);
    await untilDead('credentials for results of a revoked identity', results);
    await until('its access token is refused', async () => (await guest.http.request('GET', '/v1/limits')).status === 401, {
      deadlineMs: DEAD_WITHIN_MS,
    });

    expect(await load.finish()).toBeGreaterThan(20);
    await agent.stop();
  },
  TIMEOUT_MS,
);

test(
  'with a stock endpoint, replaced and revoked credentials die in time and no task is lost',
  async () => {
    const { http, credentials } = await makeTenant('stock-tenant');
    const endpoint = await new StockEndpoint(new StockClient(await globusVenv(), credentials), 'renewed').configure();
    await endpoint.start();
    const registered = async (): Promise<{ command: string; heartbeat: string }> => {
      const body = { endpoint_name: endpoint.name, metadata: { endpoint_version: '4.19.0' } };
      const answer = await http.ok('PUT', `/v3/endpoints/${endpoint.id}`, body);
      return {
        command: answer.command_queue_info.connection_url as string,
        heartbeat: answer.heartbeat_queue_info.connection_url as string,
      };
    };
    const double = await http.register('double', 'def double(n):\n    return 2 * n\n');
    const load = startLoad(http, endpoint.id, double);
    await endpoint.stop();
    const old = await registered();
    expect(await connects(old.command)).toBe(true);
    await endpoint.start();
    await untilDead('commands of the stock endpoint before its start', old.command);
    await untilDead('heartbeats of the stock endpoint before its start', old.heartbeat);
    expect(await load.finish()).toBeGreaterThan(20);

    await endpoint.stop();
    const last = await registered();
    await admin.ok('DELETE', `/v1/identities/${credentials.client_id}`);
    await untilDead('commands of a revoked identity', last.command);
    await untilDead('heartbeats of a revoked identity', last.heartbeat);
  },
  TIMEOUT_MS,
);

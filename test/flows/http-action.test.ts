import { createServer, type Server } from 'node:http';

import { cancelRun, endOfRun, flowsCall, makeFlow, runFlow, startRun } from '../helpers/flows';
import { killAndWait } from '../helpers/system';
import { until } from '../helpers/until';

/** Actions over HTTP: an action provider of the test, as the interface of action providers asks. */

interface Action {
  action_id: string;
  status: string;
  details: unknown;
  requestId: string;
  told: string[];
  polls: number;
}

const PORT = Number(process.env.FUNCX_TEST_PROVIDER_PORT);
const URL_OF_PROVIDER = `http://127.0.0.1:${PORT}/provider`;
let server: Server;
const actions = new Map<string, Action>();
/** What the provider does with an action that it has just been asked for, and at each poll. */
let onPoll: (action: Action) => void;
let refuse: { status: number; body: string } | undefined;

beforeAll(async () => {
  server = createServer((request, response) => {
    let text = '';
    request.on('data', (chunk: Buffer) => (text += chunk.toString()));
    request.on('end', () => {
      const [, id = '', what = ''] = /^\/provider\/(?:([^/]+)\/)?(run|status|cancel|release)$/.exec(request.url ?? '') ?? [];
      const send = (status: number, body: object): void =>
        void response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
      if (refuse) return void response.writeHead(refuse.status, { location: '/provider/elsewhere' }).end(refuse.body);
      if (what === 'run') {
        const { request_id: requestId, body } = JSON.parse(text) as { request_id: string; body: unknown };
        const action = actions.get(requestId) ?? {
          action_id: `action-${actions.size}`,
          status: 'ACTIVE',
          details: { echo: body },
          requestId,
          told: [],
          polls: 0,
        };
        actions.set(requestId, action);
        onPoll(action);
        return send(202, action);
      }
      const action = [...actions.values()].find((one) => one.action_id === decodeURIComponent(id));
      if (!action) return send(404, { error: 'no such action' });
      if (what === 'status') {
        action.polls++;
        onPoll(action);
      } else action.told.push(what);
      send(200, action);
    });
  });
  await new Promise<void>((resolve) => server.listen(PORT, '127.0.0.1', resolve));
});
afterAll(() => new Promise((resolve) => server.close(resolve)));
beforeEach(() => {
  actions.clear();
  refuse = undefined;
  onPoll = (action) => (action.status = 'SUCCEEDED');
});

const flow = (more: object = {}): object => ({
  StartAt: 'Act',
  States: {
    Act: {
      Type: 'Action',
      ActionUrl: URL_OF_PROVIDER,
      Parameters: { 'n.$': '$.n' },
      ResultPath: '$.acted',
      WaitTime: 60,
      End: true,
      ...more,
    },
  },
});
const only = (): Action => {
  expect(actions.size).toBe(1);
  return [...actions.values()][0]!; // counted above
};

test('an action at another provider runs, is polled to its end, and is released', async () => {
  onPoll = (action) => (action.status = action.polls < 2 ? 'ACTIVE' : 'SUCCEEDED');
  const run = await runFlow('over HTTP', flow(), { n: 7 });
  expect(run.details.output.acted).toMatchObject({
    action_id: 'action-0',
    status: 'SUCCEEDED',
    state_name: 'Act',
    details: { echo: { n: 7 } },
  });
  expect(only().told).toEqual(['release']);
});

test('a provider that is away for a while, and workers that are killed, do not start the action twice', async () => {
  refuse = { status: 503, body: 'away' };
  const runId = await startRun(await makeFlow('over HTTP, away', flow()), { n: 1 });
  onPoll = (action) => (action.status = action.polls < 4 ? 'ACTIVE' : 'SUCCEEDED');
  await until('the run is in the action', async () => {
    const { body } = await flowsCall('GET', `/runs/${runId}`);
    return body.details.state_name === 'Act' || undefined;
  });
  refuse = undefined;
  await until('the action was started', () => actions.size > 0 || undefined);
  await killAndWait('workers');
  expect(await endOfRun(runId)).toMatchObject({ status: 'SUCCEEDED', details: { output: { acted: { action_id: 'action-0' } } } });
  expect(only().told).toContain('release');
});

test('an action that fails fails its state, or stands in the state of the run', async () => {
  onPoll = (action) => Object.assign(action, { status: 'FAILED', details: { why: 'no room' } });
  const failed = await runFlow('over HTTP, fails', flow(), { n: 1 });
  expect(failed).toMatchObject({ status: 'FAILED', details: { error: 'ActionFailedException' } });
  expect(JSON.stringify(failed.details.cause)).toContain('no room');
  const kept = await runFlow('over HTTP, kept', flow({ ExceptionOnActionFailure: false }), { n: 1 });
  expect(kept).toMatchObject({ status: 'SUCCEEDED', details: { output: { acted: { status: 'FAILED' } } } });
});

test('an action longer than its WaitTime is given up, cancelled and released', async () => {
  onPoll = () => undefined;
  const run = await runFlow('over HTTP, slow', flow({ WaitTime: 3 }), { n: 1 });
  expect(run).toMatchObject({ status: 'FAILED', details: { error: 'ActionTimeout' } });
  expect(only().told).toEqual(['cancel', 'release']);
});

test('a cancelled run cancels its action', async () => {
  onPoll = () => undefined;
  const runId = await startRun(await makeFlow('over HTTP, cancelled', flow()), { n: 1 });
  await until('the action runs', () => [...actions.values()].some(({ polls }) => polls > 0) || undefined);
  await cancelRun(runId);
  expect(await endOfRun(runId)).toMatchObject({ status: 'FAILED', details: { code: 'FlowCanceled' } });
  await until('the provider knows', () => only().told.join() === 'cancel,release' || undefined);
});

test.each([
  ['refuses', { status: 422, body: '{"error": "n is too small"}' }, 'n is too small'],
  ['redirects', { status: 302, body: '' }, 'redirect'],
  ['is no action provider', { status: 200, body: '{"hello": 1}' }, 'is not an action provider'],
])('a provider that %s fails the state with ActionUnableToRun', async (what, answer, why) => {
  refuse = answer;
  const run = await runFlow(`over HTTP, ${what}`, flow(), { n: 1 });
  expect(run).toMatchObject({ status: 'FAILED', details: { error: 'ActionUnableToRun' } });
  expect(String(run.details.cause)).toContain(why);
});

test('an address that is not listed, and Transfer, are refused when a flow is made', async () => {
  for (const [url, why] of [
    [`http://127.0.0.1:${PORT + 1}/provider`, 'is not a provider of this service'],
    ['https://transfer.actions.globus.org/transfer', 'Globus Transfer'],
  ]) {
    const { status, body } = await flowsCall('POST', '/flows/validate', { definition: flow({ ActionUrl: url }) });
    expect([status, body.error.code]).toEqual([409, 'SCOPE_RESOLUTION_FAILED']);
    expect(JSON.stringify(body.error.detail)).toContain(why);
  }
});

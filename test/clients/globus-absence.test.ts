import { globusVenv, StockClient, StockEndpoint } from '../helpers/stock-globus';
import { until } from '../helpers/until';

/** A stock endpoint that is away for longer than it takes a start command to be refused as stale (180 s). */

const AWAY_MS = 245_000;

let client: StockClient;
let endpoint: StockEndpoint;

beforeAll(async () => {
  client = new StockClient(await globusVenv());
  endpoint = await new StockEndpoint(client, 'absence').configure();
  await endpoint.start();
}, 300_000);
afterAll(() => endpoint?.stop());

const squares = (n: number): number[] => Array.from({ length: n }, (_, i) => i * i);

test('200 tasks for an endpoint that is stopped for more than four minutes have 200 values after its return', async () => {
  expect((await client.script('many.py', [endpoint.id, '2', '0'])).values).toEqual(squares(2));
  await endpoint.stop();
  await endpoint.untilStatus('offline');
  const stoppedAt = Date.now();
  const submitted = client.script('many.py', [endpoint.id, '200', '0'], { timeoutMs: 580_000 });
  let isSettled = false;
  const settled = submitted.then(
    () => (isSettled = true),
    () => (isSettled = true),
  );
  await until('the endpoint was away for four minutes', () => isSettled || Date.now() - stoppedAt > AWAY_MS, {
    deadlineMs: 2 * AWAY_MS,
    everyMs: 1_000,
  });
  expect(isSettled).toBe(false);
  await endpoint.start();
  await settled;
  expect((await submitted).values).toEqual(squares(200));
}, 600_000);

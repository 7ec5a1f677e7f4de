import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { flowsVenv, FlowsUser } from '../helpers/flow-clients';
import { globusVenv, StockClient, StockEndpoint } from '../helpers/stock-globus';
import { Agent, killAndWait, localEndpoint } from '../helpers/system';
import { until } from '../helpers/until';

/** Gladier, unmodified: it registers functions, makes a flow of them and runs it on endpoints of ours and of Globus. */

const GLADIER = join(__dirname, 'scripts', 'gladier_steps.py');
let user: FlowsUser;
let marks: string;

beforeAll(async () => {
  user = new FlowsUser(await flowsVenv());
}, 300_000);
beforeEach(() => (marks = mkdtempSync(join(tmpdir(), 'funcx-marks-'))));
afterEach(() => rmSync(marks, { recursive: true }));

/** How often a step ran. */
const runsOf = (step: string): number => {
  try {
    return readFileSync(join(marks, step), 'utf8').split('\n').filter(Boolean).length;
  } catch {
    return 0;
  }
};

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- tests look into answers of every shape
async function gladier(input: object, timeoutMs = 120_000): Promise<any> {
  const { status, stdout, stderr } = await user.run('python', [GLADIER, JSON.stringify({ n: 1, marks, ...input })], {
    timeoutMs,
  });
  if (status !== 0) throw new Error(`gladier ended with ${status}: ${stderr.slice(-4_000)}`);
  return JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '');
}

test('a Gladier client makes its flow and runs it on an endpoint of ours', async () => {
  const first = await gladier({ compute_endpoint: localEndpoint(), second_endpoint: localEndpoint() });
  expect(first).toMatchObject({ status: 'SUCCEEDED', value: { n: 17 }, details: { code: 'FlowSucceeded' } });
  expect(first.label).toHaveLength(64);
  expect([runsOf('first'), runsOf('second'), runsOf('third')]).toEqual([1, 1, 1]);
  // What it remembers is used again: the same flow, another run.
  const second = await gladier({ compute_endpoint: localEndpoint(), second_endpoint: localEndpoint() });
  expect(second).toMatchObject({ status: 'SUCCEEDED', flow_id: first.flow_id });
  expect(second.run_id).not.toBe(first.run_id);
});

test('a step that fails leaves its text where the value would be', async () => {
  const failed = await gladier({ n: 'one', compute_endpoint: localEndpoint(), second_endpoint: localEndpoint() });
  // Gladier writes `"ExceptionOnActionFailure": false`, so that the next step gets the text.
  expect(failed.status).toBe('SUCCEEDED');
  const { FirstStep: first, SecondStep: second } = failed.details.output;
  expect([first.status, first.details.result[0]]).toEqual([
    'FAILED',
    expect.stringMatching(/TypeError: can only concatenate str/),
  ]);
  expect([second.status, runsOf('second')]).toEqual(['FAILED', 0]);
});

test('three steps over two endpoints, one of them away for a minute, survive the death of workers and API', async () => {
  const stock = await new StockEndpoint(new StockClient(await globusVenv()), 'flows').configure();
  const agent = await new Agent('flows-away').start();
  try {
    await stock.start();
    await agent.stop();
    await agent.untilOffline();
    const done = gladier({ compute_endpoint: agent.id, second_endpoint: stock.id, pause: 20 }, 400_000);
    done.catch(() => undefined); // awaited below
    await new Promise((resolve) => setTimeout(resolve, 60_000)); // how long it is away is the subject
    expect(runsOf('first')).toBe(0);
    await agent.start();
    await until('the second step runs', () => runsOf('second') > 0, { deadlineMs: 120_000 });
    await killAndWait('workers');
    await killAndWait('api');
    expect(await done).toMatchObject({ status: 'SUCCEEDED', value: { n: 17 } });
    for (const step of ['first', 'second', 'third']) {
      expect(runsOf(step)).toBeGreaterThanOrEqual(1);
      expect(runsOf(step)).toBeLessThanOrEqual(2);
    }
  } finally {
    await agent.stop();
    await stock.stop();
  }
}, 600_000);

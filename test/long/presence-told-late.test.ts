import { randomUUID } from 'node:crypto';

import type { Client } from '@temporalio/client';

import { endpointWorkflowId, QUERY } from '../../contracts/names';
import { freeze } from '../helpers/engine-faults';
import { Agent, Http, openTemporal } from '../helpers/system';
import { until } from '../helpers/until';

/** What the store knows of presence while Temporal is silent, Temporal learns when it is back. */

let temporal: { client: Client; close(): Promise<void> };
let thaw: (() => void) | undefined;
const [leaving, coming] = ['leaving', 'coming'].map((name) => new Agent(`${name}-${randomUUID().slice(0, 8)}`)) as [Agent, Agent];

beforeAll(async () => {
  temporal = await openTemporal();
  await leaving.start();
});
afterEach(() => thaw?.());
afterAll(async () => {
  await Promise.all([leaving.stop(), coming.stop()]);
  await temporal.close();
});

const isShownOnline = async ({ id }: Agent): Promise<boolean> =>
  (await temporal.client.workflow.getHandle(endpointWorkflowId(id)).query<{ isOnline: boolean }>(QUERY.presence)).isOnline;

test('agents that come and go while Temporal is silent are shown as they are once it is back', async () => {
  await until('the endpoint is shown as online', () => isShownOnline(leaving));
  thaw = freeze('temporal');
  await leaving.stop('SIGKILL');
  await leaving.untilOffline();
  await coming.start();
  const http = new Http();
  // Longer than one attempt to tell Temporal takes.
  const heldUntilMs = Date.now() + 10_000;
  await until('every attempt to tell Temporal has failed', async () => {
    expect((await http.ok('GET', `/v2/endpoints/${coming.id}/status`)).status).toBe('online');
    return Date.now() > heldUntilMs;
  });
  thaw();
  await until('the agent that went is shown as offline', async () => !(await isShownOnline(leaving)), { deadlineMs: 30_000 });
  await until('the agent that came is shown as online', () => isShownOnline(coming), { deadlineMs: 30_000 });
}, 180_000);

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { Client, Connection } from '@temporalio/client';
import { temporal } from '@temporalio/proto';

import { createPayloadCodec, readPayloadKeys } from '../../client/payload-codec';
import { OwnSystem } from '../helpers/own-system';
import { until } from '../helpers/until';

/**
 * What Temporal's histories show of calls when payloads are encrypted. The system is started three times: without keys, with
 * one key, and after a rotation; calls that began before a restart end after it.
 */

const SOURCE = 'def greet(name):\n    return "hello " + name\n';
const QUEUE = 'funcx-calls';
const [OLD, NEW] = ['1', '2'].map((digit) => digit.repeat(64));

let system: OwnSystem;
let connection: Connection;
let call: { function: string; endpoint: string };

const keysFile = (): string => join(system.layout.dataDir, 'keys');
const clientOf = (isEncrypted: boolean): Client =>
  new Client({
    connection,
    ...(isEncrypted ? { dataConverter: { payloadCodecs: [createPayloadCodec({ keys: readPayloadKeys(keysFile()) })] } } : {}),
  });

async function restart(keys?: string): Promise<void> {
  await system.end('workers');
  await system.end('api');
  if (keys !== undefined) writeFileSync(keysFile(), keys, { mode: 0o600 });
  const env = { FUNCX_PIPELINE_IDENTITY: 'admin', ...(keys === undefined ? {} : { FUNCX_PAYLOAD_KEYS_FILE: keysFile() }) };
  await system.run('api', env);
  await system.run('workers', env);
}

async function start(client: Client, workflowId: string, name: string): Promise<void> {
  await client.workflow.start('funcxCall', { workflowId, taskQueue: QUEUE, args: [{ ...call, args: [name] }] });
}

/** The history as whoever reads Temporal's database sees it. */
async function rawHistory(workflowId: string): Promise<string> {
  const { history } = await connection.workflowService.getWorkflowExecutionHistory({
    namespace: 'default',
    execution: { workflowId },
  });
  return Buffer.from(temporal.api.history.v1.History.encode(history ?? {}).finish()).toString('latin1');
}

/** Until the submission of the call is stored: then its history has the input, an activity and what came of it. */
const untilSubmitted = (workflowId: string): Promise<unknown> =>
  until(`${workflowId} has a submission`, async () =>
    /submission/.test(JSON.stringify(await clientOf(false).workflow.getHandle(workflowId).fetchHistory())),
  );

beforeAll(async () => {
  system = await OwnSystem.start();
  connection = await Connection.connect({ address: system.state.temporal_address });
  await restart();
  await system.run('endpoint');
  call = { function: await system.register('greet', SOURCE, 'python'), endpoint: system.endpointId() };
  await system.end('endpoint');
}, 200_000);

afterAll(async () => {
  await connection.close();
  await system.stop();
}, 60_000);

test('histories without a key, with a key and after a rotation hold no readable argument but where they had no key', async () => {
  await start(clientOf(false), 'plain', 'Ada');
  await untilSubmitted('plain');
  expect(await rawHistory('plain')).toContain('Ada');

  await restart(`k1 ${OLD}\n`);
  await start(clientOf(true), 'first', 'Grace');
  await untilSubmitted('first');
  expect(await rawHistory('first')).not.toContain('Grace');

  await restart(`k2 ${NEW}\nk1 ${OLD}\n`);
  const client = clientOf(true);
  await system.run('endpoint');
  await start(client, 'second', 'Edsger');
  for (const [workflowId, name] of Object.entries({ plain: 'Ada', first: 'Grace', second: 'Edsger' }))
    expect(await client.workflow.getHandle(workflowId).result()).toBe(`hello ${name}`);

  const [first, second] = [await rawHistory('first'), await rawHistory('second')];
  for (const history of [first, second]) {
    // The name of the function is in the ID and a search attribute of the submission, which Temporal needs in the clear.
    expect(history).not.toMatch(/hello|Grace|Edsger/);
    expect(history).toContain('binary/encrypted');
  }
  expect(first).toMatch(/encryption-key-id\W+k1/);
  expect(second).toMatch(/encryption-key-id\W+k2/);
  expect(second).not.toMatch(/encryption-key-id\W+k1/);
}, 400_000);

test('the codec endpoint shows them to administrators in the Temporal UI, and to nobody else', async () => {
  const { events } = await clientOf(false).workflow.getHandle('first').fetchHistory();
  const [input] = events?.[0]?.workflowExecutionStartedEventAttributes?.input?.payloads ?? [];
  const base64 = (bytes?: Uint8Array | null): string => Buffer.from(bytes ?? []).toString('base64');
  const metadata = Object.fromEntries(Object.entries(input?.metadata ?? {}).map(([name, value]) => [name, base64(value)]));
  const body = { payloads: [{ metadata, data: base64(input?.data) }] };
  const { payloads } = (await system.request('POST', '/v1/codec/decode', body)) as { payloads: { data: string }[] };
  expect(JSON.parse(Buffer.from(payloads[0]?.data ?? '', 'base64').toString())).toMatchObject({ args: ['Grace'] });
  const unknown = { ...body.payloads[0], metadata: { ...metadata, 'encryption-key-id': base64(Buffer.from('lost')) } };
  await expect(system.request('POST', '/v1/codec/decode', { payloads: [unknown] })).rejects.toThrow(/422 .*key \\"lost\\"/);

  const url = `${system.state.api_url}/v1/codec/decode`;
  const ask = (origin: string): Promise<Response> => fetch(url, { method: 'OPTIONS', headers: { origin } });
  const ui = new URL(system.state.temporal_ui_url ?? '').origin;
  expect((await ask(ui)).headers.get('access-control-allow-origin')).toBe(ui);
  expect((await ask('https://evil.example')).headers.get('access-control-allow-origin')).toBeNull();
  const headers = { 'content-type': 'application/json', origin: ui };
  expect((await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) })).status).toBe(401);
}, 30_000);

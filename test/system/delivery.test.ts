import { connect } from 'amqplib';
import { readFileSync } from 'node:fs';

import { decodeFrame } from '../../contracts/frames';
import { groupQueueName } from '../../contracts/names';
import { splitBuffer } from '../../contracts/packing';
import { Http, killAndWait, localEndpoint, openStore, state } from '../helpers/system';
import { until } from '../helpers/until';

/** A submitter that went away gets everything by its task group: over AMQP, by long poll and as events, without a repeat. */

const http = new Http();
const TASKS = 60;
const VALUES = Array.from({ length: TASKS }, (_, n) => n * 10);
let taskIds: string[];
let groupId: string;

beforeAll(async () => {
  const times = await http.register('times', 'def times(x):\n    return x * 10');
  const calls = VALUES.map((_, n) => [n]);
  ({ taskIds, groupId } = await http.submit(localEndpoint(), times, calls, { create_queue: true }));
  // The service dies in the middle; what was stored and not confirmed is delivered again.
  await killAndWait('workers');
  for (const id of taskIds) await http.answer(id);
});

const valueOf = (text: string): unknown => JSON.parse(splitBuffer(text).body) as unknown;
const inOrder = (byTask: Map<string, unknown>): unknown[] => taskIds.map((id) => byTask.get(id));

interface GroupResult {
  seq: number;
  task_id: string;
  result: string;
}

function collect(results: readonly GroupResult[]): unknown[] {
  expect(results.map((one) => one.seq)).toEqual(Array.from({ length: TASKS }, (_, n) => n + 1));
  return inOrder(new Map(results.map((one) => [one.task_id, valueOf(one.result)])));
}

test('by long poll with a cursor', async () => {
  const results: GroupResult[] = [];
  let after = 0;
  while (results.length < TASKS) {
    const page = await http.ok('GET', `/v1/taskgroups/${groupId}/results?after=${after}&limit=7&wait_s=5`);
    results.push(...(page.results as GroupResult[]));
    expect(page.next).toBeGreaterThan(after);
    after = page.next as number;
  }
  expect(collect(results)).toEqual(VALUES);
});

test('as events, taken up again in the middle by another process', async () => {
  const first = await readEvents(0, 20);
  const rest = await readEvents(first.at(-1)?.seq ?? 0, TASKS - 20);
  expect(collect([...first, ...rest])).toEqual(VALUES);
});

async function readEvents(after: number, count: number): Promise<GroupResult[]> {
  const stop = new AbortController();
  const response = await fetch(`${state().api_url}/v1/taskgroups/${groupId}/events`, {
    headers: { authorization: `Bearer ${await http.token()}`, 'last-event-id': String(after) },
    signal: stop.signal,
  });
  const results: GroupResult[] = [];
  let text = '';
  for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
    text += Buffer.from(chunk).toString('utf8');
    const events = text.split('\n\n');
    text = events.pop() ?? '';
    for (const event of events) {
      const data = event.split('\n').find((line) => line.startsWith('data: '));
      if (data) results.push(JSON.parse(data.slice(6)) as GroupResult);
    }
    if (results.length >= count) break;
  }
  stop.abort();
  return results.slice(0, count);
}

test('over AMQP, hours later: the queue was there before the first result, and keeps them for the next reader', async () => {
  const connection = await http.ok('GET', '/v2/get_amqp_result_connection_url');
  const ca = state().ca_file;
  const model = await connect(connection.connection_url as string, ca === null ? {} : { ca: [readFileSync(ca)] });
  const channel = await model.createChannel();
  const store = openStore();
  const { rows } = await store.query<{ owner_id: string }>('select owner_id from task_groups where id = $1', [groupId]);
  await store.end();
  const queue = groupQueueName(rows[0]?.owner_id ?? '', groupId);
  const byTask = new Map<string, unknown>();
  const bodies = new Map<string, string>();
  await channel.consume(queue, (message) => {
    if (!message) return;
    const frame = decodeFrame(message.content);
    if (frame.message_type !== 'result') throw new Error('not a result');
    // On the wire a result may repeat after a crash, but only byte for byte.
    const known = bodies.get(frame.data.task_id);
    if (known !== undefined) expect(message.content.toString('base64')).toBe(known);
    bodies.set(frame.data.task_id, message.content.toString('base64'));
    expect(message.properties.messageId).toBe(frame.data.task_id);
    byTask.set(frame.data.task_id, valueOf(frame.data.data));
    channel.ack(message);
  });
  await until('everything came', () => byTask.size === TASKS);
  expect(inOrder(byTask)).toEqual(VALUES);
  await model.close();
});

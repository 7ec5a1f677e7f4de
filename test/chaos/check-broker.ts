import type { Pool } from 'pg';

import { decodeBatch, isBatch } from '../../contracts/batches';
import { decodeFrame } from '../../contracts/frames';
import { commandQueueName, groupBatchQueueName, groupQueueName, QUEUE, tasksQueueName } from '../../contracts/names';
import { management, state } from '../helpers/system';
import { until } from '../helpers/until';
import type { Violation } from './check-answers';

/** RabbitMQ's management interface: queues, users and connections that nobody needs any more. */

interface QueueRow {
  name: string;
  messages?: number;
  consumers?: number;
  arguments?: Record<string, unknown>;
}

export interface BrokerExpectations {
  store: Pool;
  /** Connections by user before the first fault. */
  connections: ReadonlyMap<string, number>;
  /** Task groups whose reader may have gone without reading everything. */
  abandonedGroups: ReadonlySet<string>;
  /** Tasks whose submitters have their answers. */
  settledTasks: ReadonlySet<string>;
}

/** How the checker sees the broker. */
export interface BrokerView {
  /** Asks the management interface. */
  ask: (path: string, init?: RequestInit) => Promise<unknown>;
  /** The user of the service itself. */
  ownUser: string | null;
}

interface AnswerRow {
  payload: string;
}

export async function checkBroker(
  expected: BrokerExpectations,
  broker: BrokerView = { ask: management, ownUser: state().broker_user },
): Promise<Violation[]> {
  return [
    ...(await checkQueues(expected, broker)),
    ...(await checkUsers(expected.store, broker)),
    ...(await checkConnections(expected.connections, broker)),
  ];
}

/**
 * A queue of a task group stays until it expires; every other queue belongs to an endpoint or to the service. An answer whose confirm
 * was lost is sent again, and its reader may have gone with the first one.
 */
async function checkQueues(
  { store, abandonedGroups, settledTasks }: BrokerExpectations,
  { ask }: BrokerView,
): Promise<Violation[]> {
  const rows = (await ask('queues/funcx')) as QueueRow[];
  const { rows: queues } = await store.query<{ id: string; endpoint_id: string }>('select id, endpoint_id from endpoint_queues');
  const known = new Set<string>(Object.values(QUEUE));
  for (const { id, endpoint_id } of queues)
    known.add(tasksQueueName(id)).add(commandQueueName(id)).add(commandQueueName(endpoint_id));
  const { rows: groups } = await store.query<{ id: string; owner_id: string }>('select id, owner_id from task_groups');
  const groupOf = new Map(
    groups.flatMap(({ id, owner_id }) => [
      [groupQueueName(owner_id, id), id],
      [groupBatchQueueName(owner_id, id), id],
    ]),
  );
  const checked = rows.map(async ({ name, messages = 0, consumers = 0, arguments: declared }) => {
    const group = groupOf.get(name);
    const isKnown = known.has(name) || (group !== undefined && declared?.['x-expires'] !== undefined);
    const mayHoldMessages =
      messages > 0 &&
      group !== undefined &&
      (abandonedGroups.has(group) || (await taskIdsIn(ask, name, messages)).every((id) => settledTasks.has(id)));
    return [
      ...(isKnown ? [] : [{ rule: 'no queue is left over', what: name }]),
      ...(messages > 0 && !mayHoldMessages ? [{ rule: 'no message is left over', what: `${name}: ${messages}` }] : []),
      ...(group !== undefined && consumers > 0 ? [{ rule: 'no consumer is left over', what: name }] : []),
    ];
  });
  return (await Promise.all(checked)).flat();
}

/** Of the answers in a queue; they stay there. */
async function taskIdsIn(ask: BrokerView['ask'], queue: string, count: number): Promise<string[]> {
  const body = { count, ackmode: 'ack_requeue_true', encoding: 'base64' };
  const init = { method: 'POST', body: JSON.stringify(body) };
  const messages = (await ask(`queues/funcx/${encodeURIComponent(queue)}/get`, init)) as AnswerRow[] | { error: string };
  return Array.isArray(messages) ? messages.flatMap(({ payload }) => taskIdsOf(Buffer.from(payload, 'base64'))) : [''];
}

function taskIdsOf(message: Buffer): string[] {
  return (isBatch(message) ? decodeBatch(message).map(({ body }) => body) : [message]).map((body) => {
    const frame = decodeFrame(body);
    return frame.message_type === 'result' ? frame.data.task_id : '';
  });
}

/** A user that the store does not name would never be deleted, and of an agent's users only the latest one is of use. */
async function checkUsers(store: Pool, { ask, ownUser }: BrokerView): Promise<Violation[]> {
  const present = ((await ask('users?columns=name')) as { name: string }[]).map(({ name }) => name);
  const { rows } = await store.query<{ name: string; purpose: string; endpoint_queue_id: string | null; ends: boolean }>(
    `select name, purpose, endpoint_queue_id, expires_at is not null as ends from broker_users order by created_at desc, name desc`,
  );
  const rule = 'no broker user is left over';
  const latest = new Set<string>();
  const superseded = rows.filter(({ purpose, endpoint_queue_id, ends }) => {
    if (ends) return false;
    const owner = `${purpose} ${endpoint_queue_id}`;
    return latest.size === latest.add(owner).size;
  });
  const named = new Set(rows.map(({ name }) => name));
  return [
    ...present
      .filter((name) => name !== ownUser && !named.has(name))
      .map((name) => ({ rule, what: `${name} is not in the store` })),
    ...superseded.map(({ name }) => ({ rule, what: `${name} was replaced by a later one` })),
  ];
}

/** Once the agent's connection is in the statistics, which the broker collects every few seconds. */
export async function countConnectionsAtStart(): Promise<Map<string, number>> {
  return until('the broker counts the connection of the agent', async () => {
    const counts = await countConnections(management);
    return counts.has('agent') ? counts : undefined;
  });
}

/** By user; users of agents and of submitters are counted under their purpose, because each registration has its own. */
async function countConnections(ask: BrokerView['ask']): Promise<Map<string, number>> {
  const rows = (await ask('connections')) as { user?: string }[];
  const counts = new Map<string, number>();
  for (const { user = '' } of rows) {
    const name = user.replace(/-[0-9a-f-]{36}-[0-9a-f]{8}$/, '');
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return counts;
}

async function checkConnections(before: ReadonlyMap<string, number>, { ask }: BrokerView): Promise<Violation[]> {
  const now = await countConnections(ask);
  const users = new Set([...before.keys(), ...now.keys()]);
  return [...users].flatMap((user) => {
    const [was, is] = [before.get(user) ?? 0, now.get(user) ?? 0];
    if (was === is) return [];
    return [{ rule: 'as many connections as before the first fault', what: `${user}: ${was} before, ${is} now` }];
  });
}

import { createHmac, randomBytes } from 'node:crypto';

import { commandQueueName, EXCHANGE, resultKey, statusKey, tasksQueueName } from '../contracts/names';
import type { BrokerAdmin } from './broker-admin';
import { withCredentials } from './broker-urls';
import type { Database } from './store/database';

/**
 * Broker users of stock endpoints: one for a core endpoint's commands, one for its heartbeats, one for each user endpoint.
 * Separate ones, because a remote core endpoint is ended by taking its command credential alone: with the heartbeat
 * credential it still says goodbye (protocol/globus-compute-4, section 10.6).
 *
 * A user endpoint's password is derived from its user's random name and the service's key. So every process can repeat it
 * in each start command without asking the broker, and it is kept nowhere.
 */

export interface BrokerLogin {
  /** Also the `user_id` of what it publishes. */
  name: string;
  url: string;
}

export interface EndpointUsers {
  /** Fresh users of a core endpoint; its earlier ones are deleted, those of its user endpoints are used no more. */
  renewCore(endpointId: string, ownerId: string): Promise<{ command: BrokerLogin; heartbeat: BrokerLogin }>;
  /** Ends the core endpoint that is connected now; its heartbeats may still come. */
  revokeCommand(endpointId: string): Promise<void>;
  /** The user of a user endpoint: the present one, or a new one. */
  userEndpoint(endpointQueueId: string, ownerId: string): Promise<BrokerLogin>;
}

const PURPOSE = { command: 'command', heartbeat: 'heartbeat', user: 'user-endpoint' } as const;
/** A user endpoint is told a new user after this time. */
const LIFETIME_S = 24 * 3_600;
/** A replaced user lives on for a while, for the process that is connected with it; it is never deleted under one. */
const GRACE_S = 3_600;
/** The broker may have lost its users: look at most this often. */
const CHECK_EVERY_MS = 30_000;
const MAX_REMEMBERED = 10_000;

const NOTHING = '^$';
const quote = (name: string): string => name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
const exactly = (...names: string[]): string => `^(${names.map(quote).join('|')})$`;
const makeName = (purpose: string, id: string): string => `${purpose}-${id}-${randomBytes(4).toString('hex')}`;

export function createEndpointUsers(
  db: Database,
  admin: BrokerAdmin,
  /** `url`: what clients are told. `key`: the service's secret. */
  { url, key }: { url: string; key: string },
  now: () => number = Date.now,
): EndpointUsers {
  const checkedAt = new Map<string, number>();

  const passwordOf = (name: string): string => createHmac('sha256', key).update(`broker user ${name}`).digest('base64url');

  async function note(name: string, purpose: string, ownerId: string, endpointQueueId: string): Promise<void> {
    await db.query('insert into broker_users (name, purpose, owner_id, endpoint_queue_id) values ($1, $2, $3, $4)', [
      name,
      purpose,
      ownerId,
      endpointQueueId,
    ]);
  }

  /** First the broker, then the row: a failure in between leaves a name that is deleted again later. */
  async function revoke(endpointId: string, purposes: readonly string[], except: readonly string[] = []): Promise<void> {
    const { rows } = await db.query<{ name: string }>(
      `select name from broker_users where endpoint_queue_id = $1 and purpose = any ($2) and not name = any ($3)`,
      [endpointId, purposes, except],
    );
    const names = rows.map((row) => row.name);
    if (names.length === 0) return;
    await admin.revoke(names);
    await db.query('delete from broker_users where name = any ($1)', [names]);
  }

  async function mintUserEndpoint(name: string, endpointQueueId: string): Promise<void> {
    await admin.mint({
      name,
      password: passwordOf(name),
      write: exactly(EXCHANGE.results, EXCHANGE.status),
      read: exactly(tasksQueueName(endpointQueueId)),
      topics: [
        { exchange: EXCHANGE.results, write: exactly(resultKey(endpointQueueId)) },
        { exchange: EXCHANGE.status, write: exactly(statusKey(endpointQueueId)) },
      ],
    });
    if (checkedAt.size >= MAX_REMEMBERED) checkedAt.clear();
    checkedAt.set(name, now());
  }

  async function isKnown(name: string): Promise<boolean> {
    if (now() - (checkedAt.get(name) ?? -Infinity) < CHECK_EVERY_MS) return true;
    if (!(await admin.exists(name))) return false;
    checkedAt.set(name, now());
    return true;
  }

  return {
    async renewCore(endpointId, ownerId) {
      const command = makeName(PURPOSE.command, endpointId);
      const heartbeat = makeName(PURPOSE.heartbeat, endpointId);
      await note(command, PURPOSE.command, ownerId, endpointId);
      await note(heartbeat, PURPOSE.heartbeat, ownerId, endpointId);
      const [commandUser, heartbeatUser] = await Promise.all([
        admin.mint({ name: command, write: NOTHING, read: exactly(commandQueueName(endpointId)) }),
        admin.mint({
          name: heartbeat,
          write: exactly(EXCHANGE.status),
          read: NOTHING,
          topics: [{ exchange: EXCHANGE.status, write: exactly(statusKey(endpointId)) }],
        }),
      ]);
      await revoke(endpointId, [PURPOSE.command, PURPOSE.heartbeat], [command, heartbeat]);
      await db.query(
        `update broker_users set expires_at = now() + $3::double precision * interval '1 second'
          where purpose = $2 and expires_at is null
            and endpoint_queue_id in (select id from endpoint_queues where endpoint_id = $1)`,
        [endpointId, PURPOSE.user, GRACE_S],
      );
      return {
        command: { name: command, url: withCredentials(url, commandUser) },
        heartbeat: { name: heartbeat, url: withCredentials(url, heartbeatUser) },
      };
    },

    revokeCommand: (endpointId) => revoke(endpointId, [PURPOSE.command]),

    async userEndpoint(endpointQueueId, ownerId) {
      const { rows } = await db.query<{ name: string; isOld: boolean }>({
        name: 'user-endpoint-login',
        text: `select name, created_at < now() - $3::double precision * interval '1 second' as "isOld" from broker_users
                where endpoint_queue_id = $1 and purpose = $2 and expires_at is null order by created_at desc, name limit 1`,
        values: [endpointQueueId, PURPOSE.user, LIFETIME_S],
      });
      const present = rows[0];
      if (present && !present.isOld) {
        if (!(await isKnown(present.name))) await mintUserEndpoint(present.name, endpointQueueId);
        return { name: present.name, url: withCredentials(url, { name: present.name, password: passwordOf(present.name) }) };
      }
      const name = makeName(PURPOSE.user, endpointQueueId);
      await note(name, PURPOSE.user, ownerId, endpointQueueId);
      await mintUserEndpoint(name, endpointQueueId);
      if (present) {
        await db.query(
          `update broker_users set expires_at = now() + $3::double precision * interval '1 second'
            where endpoint_queue_id = $1 and purpose = $2 and name <> $4 and expires_at is null`,
          [endpointQueueId, PURPOSE.user, GRACE_S, name],
        );
      }
      return { name, url: withCredentials(url, { name, password: passwordOf(name) }) };
    },
  };
}

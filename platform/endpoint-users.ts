import { createHmac } from 'node:crypto';

import { commandQueueName, EXCHANGE, resultKey, statusKey, tasksQueueName } from '../contracts/names';
import type { BrokerAdmin } from './broker-admin';
import { exactly, makeUserName } from './broker-user-names';
import { withCredentials } from './broker-urls';
import { forgetBrokerUsers } from './store/broker-users';
import type { Database } from './store/database';

/**
 * Broker users of stock endpoints: one for a core endpoint's commands, one for its heartbeats, one for each user endpoint. The
 * service stops a remote core endpoint by deleting its command user. The endpoint still needs its heartbeat user to report that
 * it stops (globus-compute-endpoint 4.19: `endpoint/core_endpoint.py`).
 *
 * The password of a user endpoint is derived from the random name of its user and the service's key, so that every process can
 * include the password in start commands without storing it.
 */

export interface BrokerLogin {
  /** The user name, which is also the `user_id` of the messages that the user publishes. */
  name: string;
  url: string;
}

export interface EndpointUsers {
  /** Creates users for a core endpoint, deletes its earlier users, and expires the users of its user endpoints. */
  renewCore(endpointId: string, ownerId: string): Promise<{ command: BrokerLogin; heartbeat: BrokerLogin }>;
  /** Stops the connected core endpoint. Its heartbeats may still arrive. */
  revokeCommand(endpointId: string): Promise<void>;
  /** The broker user of a user endpoint. Creates one when none exists or the existing one is too old. */
  userEndpoint(endpointQueueId: string, ownerId: string): Promise<BrokerLogin>;
}

const PURPOSE = { command: 'command', heartbeat: 'heartbeat', user: 'user-endpoint' } as const;
/** A user endpoint gets a new user after this time. */
const LIFETIME_S = 24 * 3_600;
/** A replaced user is kept for this long, and longer while a process is connected with it. */
const GRACE_S = 3_600;
/** How often to check that the broker still has a user. */
const CHECK_EVERY_MS = 30_000;
const MAX_REMEMBERED = 10_000;

const NOTHING = '^$';

export function createEndpointUsers(
  db: Database,
  admin: BrokerAdmin,
  /** `url`: the broker address for clients. `key`: the service's secret. */
  { url, key }: { url: string; key: string },
  now: () => number = Date.now,
): EndpointUsers {
  const checkedAt = new Map<string, number>();

  const passwordOf = (name: string): string => createHmac('sha256', key).update(`broker user ${name}`).digest('base64url');

  async function recordUser(name: string, purpose: string, ownerId: string, endpointQueueId: string): Promise<void> {
    await db.query('insert into broker_users (name, purpose, owner_id, endpoint_queue_id) values ($1, $2, $3, $4)', [
      name,
      purpose,
      ownerId,
      endpointQueueId,
    ]);
  }

  /** Forgets them last, so that a later call repeats a revocation that failed midway. */
  async function revoke(endpointId: string, purposes: readonly string[], except: readonly string[] = []): Promise<void> {
    const { rows } = await db.query<{ name: string }>(
      `select name from broker_users where endpoint_queue_id = $1 and purpose = any ($2) and not name = any ($3)`,
      [endpointId, purposes, except],
    );
    const names = rows.map((row) => row.name);
    if (names.length === 0) return;
    await admin.revoke(names);
    await forgetBrokerUsers(db, names);
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
      const command = makeUserName(PURPOSE.command, endpointId);
      const heartbeat = makeUserName(PURPOSE.heartbeat, endpointId);
      await recordUser(command, PURPOSE.command, ownerId, endpointId);
      await recordUser(heartbeat, PURPOSE.heartbeat, ownerId, endpointId);
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
      const current = rows[0];
      if (current && !current.isOld) {
        if (!(await isKnown(current.name))) await mintUserEndpoint(current.name, endpointQueueId);
        return { name: current.name, url: withCredentials(url, { name: current.name, password: passwordOf(current.name) }) };
      }
      const name = makeUserName(PURPOSE.user, endpointQueueId);
      await recordUser(name, PURPOSE.user, ownerId, endpointQueueId);
      await mintUserEndpoint(name, endpointQueueId);
      if (current) {
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

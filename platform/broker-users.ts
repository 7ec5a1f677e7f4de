import { randomBytes } from 'node:crypto';

import { commandQueueName, EXCHANGE, groupQueuePrefix, resultKey, statusKey, tasksQueueName } from '../contracts/names';
import type { BrokerAdmin } from './broker-admin';
import type { Database } from './store/database';

/**
 * Broker users of agents and submitters: who has which, and how they end. Their names are in the store so that they can be
 * deleted; a name is written before its user is made, so that a crash in between leaves nothing unknown behind.
 */

export interface BrokerUsers {
  /** A fresh user for an agent's own queues. Every earlier user of the endpoint is deleted. Returns its address. */
  renewAgent(endpointId: string, ownerId: string): Promise<string>;
  revokeEndpoint(endpointId: string): Promise<void>;
  /** The address by which an identity reads the queues of its task groups. The same for a while. */
  resultsUrl(ownerId: string): Promise<string>;
  revokeOwner(ownerId: string): Promise<void>;
  /** Deletes users whose time is over and who are not connected. Returns how many. */
  sweepExpired(): Promise<number>;
}

/** A results user is handed out for this long ... */
const RESULTS_LIFETIME_MS = 12 * 3_600_000;
/** ... and deleted this much later, when nobody uses it any more. */
const RESULTS_GRACE_S = 24 * 3_600;
/** A remembered user may have been deleted meanwhile (by a replica, or the broker lost its data): look at most this often. */
const CHECK_EVERY_MS = 30_000;

interface ResultsUser {
  name: string;
  url: string;
  madeAtMs: number;
  checkedAtMs: number;
}

const quote = (name: string): string => name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
const exactly = (...names: string[]): string => `^(${names.map(quote).join('|')})$`;
const makeName = (purpose: string, id: string): string => `${purpose}-${id}-${randomBytes(4).toString('hex')}`;

export function createBrokerUsers(
  db: Database,
  admin: Omit<BrokerAdmin, 'setQueuePolicy'>,
  /** What clients are told; credentials are put into it. */
  publicUrl: string,
  now: () => number = Date.now,
): BrokerUsers {
  const resultsUsers = new Map<string, Promise<ResultsUser>>();

  function urlFor({ name, password }: { name: string; password: string }): string {
    const url = new URL(publicUrl);
    url.username = name;
    url.password = password;
    return url.toString();
  }

  async function note(
    name: string,
    purpose: string,
    ownerId: string,
    endpointQueueId: string | null,
    lifetimeS?: number,
  ): Promise<void> {
    await db.query(
      `insert into broker_users (name, purpose, owner_id, endpoint_queue_id, expires_at)
       values ($1, $2, $3, $4, now() + $5::double precision * interval '1 second')`,
      [name, purpose, ownerId, endpointQueueId, lifetimeS ?? null],
    );
  }

  /** First the broker, then the row: a failure in between leaves a name that is deleted again later. */
  async function revokeWhere(condition: string, values: unknown[]): Promise<number> {
    const { rows } = await db.query<{ name: string }>(`select name from broker_users where ${condition}`, values);
    const names = rows.map((row) => row.name);
    if (names.length === 0) return 0;
    await admin.revoke(names);
    await db.query('delete from broker_users where name = any ($1)', [names]);
    return names.length;
  }

  async function mintResults(ownerId: string): Promise<ResultsUser> {
    const name = makeName('results', ownerId);
    await note(name, 'results', ownerId, null, RESULTS_LIFETIME_MS / 1000 + RESULTS_GRACE_S);
    const minted = await admin.mint({ name, write: '^$', read: `^${quote(groupQueuePrefix(ownerId))}[0-9a-f-]+$` });
    return { name, url: urlFor(minted), madeAtMs: now(), checkedAtMs: now() };
  }

  async function isGood(user: ResultsUser): Promise<boolean> {
    if (now() - user.madeAtMs > RESULTS_LIFETIME_MS) return false;
    if (now() - user.checkedAtMs < CHECK_EVERY_MS) return true;
    user.checkedAtMs = now();
    return admin.exists(user.name);
  }

  return {
    async renewAgent(endpointId, ownerId) {
      const name = makeName('agent', endpointId);
      await note(name, 'agent', ownerId, endpointId);
      const minted = await admin.mint({
        name,
        write: exactly(EXCHANGE.results, EXCHANGE.status),
        read: exactly(tasksQueueName(endpointId), commandQueueName(endpointId)),
        topics: [
          { exchange: EXCHANGE.results, write: exactly(resultKey(endpointId)) },
          { exchange: EXCHANGE.status, write: exactly(statusKey(endpointId)) },
        ],
      });
      // Only earlier ones: of two registrations at once, the later one stays.
      await revokeWhere(
        'endpoint_queue_id = $1 and (created_at, name) < (select created_at, name from broker_users where name = $2)',
        [endpointId, name],
      );
      return urlFor(minted);
    },

    async revokeEndpoint(endpointId) {
      await revokeWhere('endpoint_queue_id in (select id from endpoint_queues where endpoint_id = $1)', [endpointId]);
    },

    async resultsUrl(ownerId) {
      const known = resultsUsers.get(ownerId);
      if (known && (await isGood(await known))) return (await known).url;
      // Whoever comes while this one is made waits for it.
      const current = resultsUsers.get(ownerId);
      const making = current !== undefined && current !== known ? current : mintResults(ownerId);
      resultsUsers.set(ownerId, making);
      making.catch(() => {
        if (resultsUsers.get(ownerId) === making) resultsUsers.delete(ownerId);
      });
      return (await making).url;
    },

    async revokeOwner(ownerId) {
      resultsUsers.delete(ownerId);
      await revokeWhere('owner_id = $1', [ownerId]);
    },

    async sweepExpired() {
      const { rows } = await db.query<{ name: string }>('select name from broker_users where expires_at < now() limit 1000');
      if (rows.length === 0) return 0;
      // Deleting a user would close the connection of a listener that still reads.
      const connected = await admin.listConnectedUsers();
      const idle = rows.map((row) => row.name).filter((name) => !connected.has(name));
      return revokeWhere('name = any ($1)', [idle]);
    },
  };
}

import {
  batchQueueOf,
  commandQueueName,
  EXCHANGE,
  groupQueuePrefix,
  resultKey,
  statusKey,
  tasksQueueName,
} from '../contracts/names';
import type { BrokerAdmin } from './broker-admin';
import { escapePattern, exactly, makeUserName } from './broker-user-names';
import { withCredentials } from './broker-urls';
import { forgetBrokerUsers } from './store/broker-users';
import type { Database } from './store/database';

/**
 * Broker users for our agents and for submitters. The store lists their names so that they can be deleted. A name is stored
 * before its user is created, so that a crash leaves no unknown user.
 */

export interface BrokerUsers {
  // `tokenId` is the API token of the caller, if any: the broker user is deleted when the token ends.
  /** Creates a user for an agent's queues and deletes earlier users of the endpoint. Returns the broker address. */
  renewAgent(endpointId: string, ownerId: string, tokenId?: string): Promise<string>;
  revokeEndpoint(endpointId: string): Promise<void>;
  /** The broker address with which an identity reads the queues of its task groups. Does not change for some hours. */
  resultsUrl(ownerId: string, tokenId?: string): Promise<string>;
  revokeOwner(ownerId: string): Promise<void>;
  /** Deletes the users that were created for the bearer of an API token. The broker closes their connections. */
  revokeToken(tokenId: string): Promise<void>;
  /** Deletes users whose API token has ended, and expired users that are not connected. Returns their number. */
  sweepExpired(): Promise<number>;
}

/** A results user is returned to callers for this long. */
const RESULTS_LIFETIME_MS = 12 * 3_600_000;
/** After its lifetime plus this time, a results user is deleted as soon as no connection uses it. */
const RESULTS_GRACE_S = 24 * 3_600;
/** Another replica may have deleted a cached user, or the broker may have lost its data. */
const CHECK_EVERY_MS = 30_000;

interface ResultsUser {
  name: string;
  url: string;
  createdAtMs: number;
  checkedAtMs: number;
}

export function createBrokerUsers(
  db: Database,
  admin: Omit<BrokerAdmin, 'setQueuePolicy'>,
  /** The broker address for clients, without credentials. */
  publicUrl: string,
  now: () => number = Date.now,
): BrokerUsers {
  const resultsUsers = new Map<string, Promise<ResultsUser>>();

  async function recordUser(
    name: string,
    purpose: string,
    ownerId: string,
    endpointQueueId: string | null,
    tokenId: string | undefined,
    lifetimeS?: number,
  ): Promise<void> {
    await db.query(
      `insert into broker_users (name, purpose, owner_id, endpoint_queue_id, expires_at, token_id)
       values ($1, $2, $3, $4, now() + $5::double precision * interval '1 second', $6)`,
      [name, purpose, ownerId, endpointQueueId, lifetimeS ?? null, tokenId ?? null],
    );
  }

  /** Forgets them last, so that a later call repeats a revocation that failed midway. */
  async function revokeWhere(condition: string, values: unknown[]): Promise<number> {
    const { rows } = await db.query<{ name: string }>(`select name from broker_users where ${condition}`, values);
    const names = rows.map((row) => row.name);
    if (names.length === 0) return 0;
    await admin.revoke(names);
    await forgetBrokerUsers(db, names);
    return names.length;
  }

  async function mintResults(ownerId: string, tokenId: string | undefined): Promise<ResultsUser> {
    const name = makeUserName('results', ownerId);
    await recordUser(name, 'results', ownerId, null, tokenId, RESULTS_LIFETIME_MS / 1000 + RESULTS_GRACE_S);
    const read = `^${escapePattern(groupQueuePrefix(ownerId))}[0-9a-f-]+(${escapePattern(batchQueueOf(''))})?$`;
    const minted = await admin.mint({ name, write: '^$', read });
    return { name, url: withCredentials(publicUrl, minted), createdAtMs: now(), checkedAtMs: now() };
  }

  async function isUsable(user: ResultsUser): Promise<boolean> {
    if (now() - user.createdAtMs > RESULTS_LIFETIME_MS) return false;
    if (now() - user.checkedAtMs < CHECK_EVERY_MS) return true;
    user.checkedAtMs = now();
    return admin.exists(user.name);
  }

  return {
    async renewAgent(endpointId, ownerId, tokenId) {
      const name = makeUserName('agent', endpointId);
      await recordUser(name, 'agent', ownerId, endpointId, tokenId);
      const minted = await admin.mint({
        name,
        write: exactly(EXCHANGE.results, EXCHANGE.status),
        read: exactly(tasksQueueName(endpointId), commandQueueName(endpointId)),
        topics: [
          { exchange: EXCHANGE.results, write: exactly(resultKey(endpointId)) },
          { exchange: EXCHANGE.status, write: exactly(statusKey(endpointId)) },
        ],
      });
      // Delete only earlier users: after two concurrent registrations, the user of the later one stays valid.
      await revokeWhere(
        'endpoint_queue_id = $1 and (created_at, name) < (select created_at, name from broker_users where name = $2)',
        [endpointId, name],
      );
      return withCredentials(publicUrl, minted);
    },

    async revokeEndpoint(endpointId) {
      await revokeWhere('endpoint_queue_id in (select id from endpoint_queues where endpoint_id = $1)', [endpointId]);
    },

    async resultsUrl(ownerId, tokenId) {
      const bearer = tokenId ?? ownerId;
      const known = resultsUsers.get(bearer);
      if (known && (await isUsable(await known))) return (await known).url;
      // Concurrent callers share one creation.
      const current = resultsUsers.get(bearer);
      const making = current !== undefined && current !== known ? current : mintResults(ownerId, tokenId);
      resultsUsers.set(bearer, making);
      making.catch(() => {
        if (resultsUsers.get(bearer) === making) resultsUsers.delete(bearer);
      });
      return (await making).url;
    },

    async revokeOwner(ownerId) {
      resultsUsers.delete(ownerId);
      await revokeWhere('owner_id = $1', [ownerId]);
    },

    async revokeToken(tokenId) {
      resultsUsers.delete(tokenId);
      await revokeWhere('token_id = $1', [tokenId]);
    },

    async sweepExpired() {
      const ended = await revokeWhere(
        `token_id is not null and not exists (select from access_tokens t where t.id = token_id and t.expires_at > now())`,
        [],
      );
      const { rows } = await db.query<{ name: string }>('select name from broker_users where expires_at < now() limit 1000');
      if (rows.length === 0) return ended;
      // Deleting a user closes its connections, so users that are connected stay.
      const connected = await admin.listConnectedUsers();
      const idle = rows.map((row) => row.name).filter((name) => !connected.has(name));
      return ended + (await revokeWhere('name = any ($1)', [idle]));
    },
  };
}

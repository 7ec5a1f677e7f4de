import { createHash, randomBytes } from 'node:crypto';

import { ensureError, RetryableError } from '../contracts/errors';
import { concurrently } from './concurrently';

/** The parts of RabbitMQ's management interface that the service uses: users with narrow permissions, policies, connections. */

export interface BrokerUserSpec {
  name: string;
  /** Regular expressions for names of queues and exchanges. The user has no configure permission. */
  write: string;
  read: string;
  /** Routing keys with which the user may publish, by topic exchange. */
  topics?: readonly { exchange: string; write: string }[];
  /** Default: random. */
  password?: string;
}

export interface BrokerAdmin {
  /** Creates the user. The service does not store the password. */
  mint(spec: BrokerUserSpec): Promise<{ name: string; password: string }>;
  /** Deletes users; the broker closes their connections. Ignores unknown names. */
  revoke(names: readonly string[]): Promise<void>;
  exists(name: string): Promise<boolean>;
  /** False when the broker (an older version) does not support the definition. */
  setQueuePolicy(name: string, pattern: string, definition: Record<string, unknown>): Promise<boolean>;
  listConnectedUsers(): Promise<Set<string>>;
}

export interface BrokerAdminOptions {
  /** Address of the management interface. If it contains no credentials, the credentials of `amqpUrl` are used. */
  managementUrl: string;
  /** The service's own broker address, for the virtual host. */
  amqpUrl: string;
  /** Per call. Default 5,000 ms. */
  deadlineMs?: number;
  /** Maximum AMQP connections of one minted user, which may open ten times as many channels. Default: the broker's limits. */
  maxConnections?: number;
}

const NOTHING = '^$';
const CHANNELS_PER_CONNECTION = 10;
const REVOKE_CONCURRENCY = 10;

export function createBrokerAdmin({
  managementUrl,
  amqpUrl,
  deadlineMs = 5_000,
  maxConnections,
}: BrokerAdminOptions): BrokerAdmin {
  const base = new URL(managementUrl);
  const amqp = new URL(amqpUrl);
  const vhost = encodeURIComponent(decodeURIComponent(amqp.pathname.slice(1)) || '/');
  const [user, password] = base.username ? [base.username, base.password] : [amqp.username, amqp.password];
  const credentials = `${decodeURIComponent(user)}:${decodeURIComponent(password)}`;
  const authorization = `Basic ${Buffer.from(credentials).toString('base64')}`;
  const root = base.origin + base.pathname.replace(/\/$/, '');

  async function call(method: string, path: string, body?: unknown): Promise<Response> {
    let response: Response;
    try {
      response = await fetch(`${root}/api/${path}`, {
        method,
        headers: { authorization, 'content-type': 'application/json' },
        body: body === undefined ? undefined : JSON.stringify(body),
        signal: AbortSignal.timeout(deadlineMs),
      });
    } catch (error) {
      throw new RetryableError('the management interface of the message broker does not answer; try again in a moment', {
        cause: ensureError(error),
      });
    }
    if (response.ok || response.status === 404) return response;
    const text = await response.text();
    throw new RetryableError('the message broker refused an administrative request; try again in a moment', {
      cause: new Error(`${method} ${path.split('/')[0] ?? ''}: ${response.status} ${text.slice(0, 300)}`),
    });
  }

  /** Reads the response body: fetch reuses a connection only after that. */
  async function run(method: string, path: string, body?: unknown): Promise<number> {
    const response = await call(method, path, body);
    await response.arrayBuffer();
    return response.status;
  }

  return {
    async mint({ name, write, read, topics = [], password: given }) {
      const secret = given ?? randomBytes(24).toString('base64url');
      const user = encodeURIComponent(name);
      // Send a hash, so that the password does not appear in the broker's logs.
      await run('PUT', `users/${user}`, { ...hashPassword(secret), tags: '' });
      const limits = maxConnections === undefined ? [] : ['max-connections', 'max-channels'];
      await Promise.all([
        ...limits.map((limit) =>
          run('PUT', `user-limits/${user}/${limit}`, {
            value: (maxConnections ?? 0) * (limit === 'max-channels' ? CHANNELS_PER_CONNECTION : 1),
          }),
        ),
        run('PUT', `permissions/${vhost}/${user}`, { configure: NOTHING, write, read }),
        ...topics.map((topic) =>
          run('PUT', `topic-permissions/${vhost}/${user}`, { exchange: topic.exchange, write: topic.write, read: NOTHING }),
        ),
      ]);
      return { name, password: secret };
    },

    async revoke(names) {
      if (names.length === 0) return;
      const revokeOne = (name: string): Promise<number> => run('DELETE', `users/${encodeURIComponent(name)}`);
      if (names.length === 1) return void (await revokeOne(names[0]!)); // the list has one name
      try {
        await run('POST', 'users/bulk-delete', { users: names });
      } catch (error) {
        // RabbitMQ 3.10 stops at a missing user, such as one that an interrupted revocation deleted.
        if (!(error instanceof Error && error.cause instanceof Error && / 400 .*no_such_user/.test(error.cause.message)))
          throw error;
        await concurrently(REVOKE_CONCURRENCY, names, async (name) => void (await revokeOne(name)));
      }
    },

    exists: async (name) => (await run('GET', `users/${encodeURIComponent(name)}?columns=name`)) !== 404,

    async setQueuePolicy(name, pattern, definition) {
      const policy = { pattern, definition, 'apply-to': 'queues', priority: 10 };
      try {
        await run('PUT', `policies/${vhost}/${encodeURIComponent(name)}`, policy);
        return true;
      } catch (error) {
        if (error instanceof Error && error.cause instanceof Error && / 400 /.test(error.cause.message)) return false;
        throw error;
      }
    },

    async listConnectedUsers() {
      const response = await call('GET', 'connections?columns=user');
      const rows = (await response.json()) as { user?: string }[];
      return new Set(rows.flatMap((row) => (row.user === undefined ? [] : [row.user])));
    },
  };
}

/** RabbitMQ's salted form: base64 of a 4-byte salt and sha256(salt + password). */
function hashPassword(password: string): { password_hash: string; hashing_algorithm: string } {
  const salt = randomBytes(4);
  const digest = createHash('sha256').update(salt).update(password).digest();
  return {
    password_hash: Buffer.concat([salt, digest]).toString('base64'),
    hashing_algorithm: 'rabbit_password_hashing_sha256',
  };
}

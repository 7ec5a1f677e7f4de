import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';

import { z } from 'zod';

import { TerminalError } from '../contracts/errors';
import type { TokenScope } from '../contracts/http/tokens';
import { EVERY_RESOURCE_SERVER, type Identity } from './access';
import type { ProviderUser } from './oidc/claims';
import type { IdentityProvider } from './oidc/provider';
import { createSecretVerifier, hashSecret, hashToken, makeAccessToken, makeSecret } from './secrets';
import { listValidTokens, recordTokenUse } from './store/api-tokens';
import type { Database } from './store/database';
import { ensureProviderIdentity, type ProviderIdentity } from './store/provider-identities';

/** Identities, their secrets and their access tokens. */

/** Lifetime of an issued token; clients renew it 60 s before the end. */
export const TOKEN_LIFETIME_S = 172_800;
/** How long other processes may still accept a revoked token or an outdated group membership. */
const CACHE_MS = 5_000;
const MAX_CACHED = 50_000;

/** Clients of Globus Auth require a domain and an identity provider. */
const DOMAIN = 'clients.funcx.local';
export const IDENTITY_PROVIDER = { id: '00000000-0000-4000-8000-000000000000', name: 'funcX client credentials' } as const;

/** An identity's name in the formats of Globus Auth. Identity mappings match the username. */
export function describeName(name: string): { name: string; username: string; email: string } {
  const username = `${name.replace(/[^A-Za-z0-9._-]/g, '_')}@${DOMAIN}`;
  return { name, username, email: username };
}

const UNIQUE_VIOLATION = '23505';

export interface IdentityRow {
  id: string;
  name: string;
  isAdmin: boolean;
  createdAt: Date;
  revokedAt: Date | null;
  /** The OpenID Connect provider of the identity; null for local identities. */
  issuer: string | null;
  agentEndpointId: string | null;
}

export interface NewIdentity {
  name: string;
  id?: string;
  secret?: string;
  isAdmin?: boolean;
}

export interface IssuedToken {
  token: string;
  scope: string;
  resourceServer: string;
}

export interface Identities {
  /**
   * Creates or updates the administrator in the file {client_id, client_secret, name}, and the identity of an agent in the second
   * file {client_id, client_secret, endpoint_id, public}. The agent serves an endpoint of this administrator.
   */
  ensureBootstrap(file: string, agentFile?: string): Promise<void>;
  /** Throws CONFLICT when the name or the id is taken. */
  create(wanted: NewIdentity): Promise<{ id: string; name: string; secret: string }>;
  list(): Promise<IdentityRow[]>;
  find(nameOrId: string): Promise<IdentityRow | undefined>;
  findMany(ids: readonly string[]): Promise<IdentityRow[]>;
  /** Which of these API tokens are valid, by ID. */
  findTokens(ids: readonly string[]): Promise<string[]>;
  /** Invalidates the identity's secret and tokens. */
  revoke(id: string): Promise<void>;
  authenticateClient(id: string, secret: string): Promise<{ id: string; name: string } | undefined>;
  issueTokens(identityId: string, wanted: readonly { scope: string; resourceServer: string }[]): Promise<IssuedToken[]>;
  revokeToken(identityId: string, token: string): Promise<void>;
  /**
   * The identity of the token; undefined when the token is unknown, expired or revoked. For a token of the OpenID Connect
   * provider, creates the identity on first use, and throws UNAUTHENTICATED with the reason, FORBIDDEN or UNAVAILABLE.
   */
  authenticate(token: string): Promise<Identity | undefined>;
  /** The identity of a user of the OpenID Connect provider, created on first use. Throws UNAUTHENTICATED if it is revoked. */
  ofProviderUser(user: ProviderUser): Promise<{ id: string; name: string }>;
  /** Clears the cache. Call when group memberships have changed. */
  forget(): void;
}

const bootstrapSchema = z.object({ client_id: z.uuid(), client_secret: z.string().min(16), name: z.string().min(1) });
const bootstrapAgentSchema = z.object({
  client_id: z.uuid(),
  client_secret: z.string().min(16),
  endpoint_id: z.uuid(),
  public: z.boolean().default(false),
});
const COLUMNS =
  'id, name, is_admin as "isAdmin", created_at as "createdAt", revoked_at as "revokedAt", agent_endpoint_id as "agentEndpointId", issuer';

interface Cached {
  identity: Identity;
  expiresAtMs: number;
  readAtMs: number;
}

export interface IdentitiesOptions {
  provider?: IdentityProvider;
  now?: () => number;
}

export function createIdentities(db: Database, { provider, now = Date.now }: IdentitiesOptions = {}): Identities {
  const verifySecret = createSecretVerifier();
  const unknownHash = hashSecret(makeSecret());
  const cache = new Map<string, Cached>();

  async function readToken(hash: Buffer): Promise<Cached | undefined> {
    const { rows } = await db.query<{
      id: string;
      name: string;
      isAdmin: boolean;
      expiresAt: Date;
      server: string;
      tokenId: string | null;
      scope: string;
      groups: string[];
      agentEndpointId: string | null;
      agentOwnerId: string | null;
      mayBePublic: boolean;
    }>({
      name: 'read-token',
      text: `select i.id, i.name, i.is_admin as "isAdmin", t.expires_at as "expiresAt", t.resource_server as server,
                    t.id as "tokenId", t.scope,
                    i.agent_endpoint_id as "agentEndpointId", i.agent_owner_id as "agentOwnerId", i.agent_may_be_public as "mayBePublic",
                    array(select m.group_id::text from group_members m where m.identity_id = i.id) as groups
               from access_tokens t join identities i on i.id = t.identity_id
              where t.hash = $1 and t.kind in ('access', 'api') and t.expires_at > now() and i.revoked_at is null
                and not exists (select from identities o where o.id = i.agent_owner_id and o.revoked_at is not null)`,
      values: [hash],
    });
    const row = rows[0];
    if (!row) return undefined;
    const { id, name, isAdmin, groups, server: resourceServer, agentEndpointId, agentOwnerId, mayBePublic } = row;
    const agentOf =
      agentEndpointId === null || agentOwnerId === null
        ? undefined
        : { endpointId: agentEndpointId, ownerId: agentOwnerId, mayBePublic };
    const identity = { id, name, isAdmin, groups: new Set(groups), resourceServer, agentOf };
    const expiresAtMs = row.expiresAt.getTime();
    if (row.tokenId === null) return { identity, expiresAtMs, readAtMs: now() };
    const token = { id: row.tokenId, expiresAtMs, scopes: new Set(row.scope.split(' ') as TokenScope[]) };
    await recordTokenUse(db, token.id);
    // A token without the scope `admin` gives no administrator rights, even if its owner is an administrator.
    return { identity: { ...identity, token, isAdmin: isAdmin && token.scopes.has('admin') }, expiresAtMs, readAtMs: now() };
  }

  async function readProviderToken(issuedBy: IdentityProvider, token: string): Promise<Cached> {
    const { user, expiresAtMs } = await issuedBy.userOfToken(token);
    const { id, name, isAdmin, groups } = await identityOfUser(user);
    const identity = {
      id,
      name,
      isAdmin,
      groups: new Set(groups),
      resourceServer: EVERY_RESOURCE_SERVER,
      token: { expiresAtMs },
    };
    return { identity, expiresAtMs, readAtMs: now() };
  }

  async function identityOfUser(user: ProviderUser): Promise<ProviderIdentity> {
    const identity = await ensureProviderIdentity(db, user);
    if (!identity.isRevoked) return identity;
    throw new TerminalError(
      'UNAUTHENTICATED',
      `the identity ${identity.name} was revoked in this service; ask an administrator of the service`,
    );
  }

  async function insert(id: string, name: string, secret: string, isAdmin: boolean): Promise<void> {
    try {
      await db.query('insert into identities (id, name, secret_hash, is_admin) values ($1, $2, $3, $4)', [
        id,
        name,
        await hashSecret(secret),
        isAdmin,
      ]);
    } catch (error) {
      if ((error as { code?: unknown }).code !== UNIQUE_VIOLATION) throw error;
      throw new TerminalError('CONFLICT', `an identity with the name ${name} or the id ${id} exists; choose another`, {
        cause: error,
      });
    }
  }

  /** Returns the stored hash if it already matches the secret, so that a restart does not change the row. */
  async function hashOf(id: string, secret: string): Promise<string> {
    const { rows } = await db.query<{ secret_hash: string }>('select secret_hash from identities where id = $1', [id]);
    const present = rows[0]?.secret_hash;
    return present !== undefined && (await verifySecret(secret, present)) ? present : hashSecret(secret);
  }

  return {
    async ensureBootstrap(file, agentFile) {
      const wanted = bootstrapSchema.parse(JSON.parse(await readFile(file, 'utf8')));
      const id = wanted.client_id.toLowerCase();
      await db.query(
        `insert into identities (id, name, secret_hash, is_admin) values ($1, $2, $3, true)
         on conflict (id) do update set name = excluded.name, secret_hash = excluded.secret_hash, is_admin = true, revoked_at = null`,
        [id, wanted.name, await hashOf(id, wanted.client_secret)],
      );
      if (agentFile === undefined) return;
      const agent = bootstrapAgentSchema.parse(JSON.parse(await readFile(agentFile, 'utf8')));
      const agentId = agent.client_id.toLowerCase();
      await db.query(
        `insert into identities (id, name, secret_hash, agent_endpoint_id, agent_owner_id, agent_may_be_public)
         values ($1, $2, $3, $4, $5, $6)
         on conflict (id) do update set secret_hash = excluded.secret_hash, agent_endpoint_id = excluded.agent_endpoint_id,
             agent_owner_id = excluded.agent_owner_id, agent_may_be_public = excluded.agent_may_be_public, is_admin = false`,
        [agentId, `agent-${agentId}`, await hashOf(agentId, agent.client_secret), agent.endpoint_id, id, agent.public],
      );
      cache.clear();
    },

    async create({ name, id = randomUUID(), secret = makeSecret(), isAdmin = false }) {
      await insert(id, name, secret, isAdmin);
      return { id, name, secret };
    },

    async list() {
      const { rows } = await db.query<IdentityRow>(`select ${COLUMNS} from identities order by created_at, id`);
      return rows;
    },

    async find(nameOrId) {
      const { rows } = await db.query<IdentityRow>(
        `select ${COLUMNS} from identities where name = $1 or id::text = lower($1) order by name = $1 desc limit 1`,
        [nameOrId],
      );
      return rows[0];
    },

    async findMany(ids) {
      const { rows } = await db.query<IdentityRow>(`select ${COLUMNS} from identities where id = any ($1)`, [ids]);
      return rows;
    },

    findTokens: (ids) => listValidTokens(db, ids),

    async revoke(id) {
      await db.query(
        `with gone as (delete from access_tokens where identity_id = $1)
         update identities set revoked_at = coalesce(revoked_at, now()) where id = $1`,
        [id],
      );
      cache.clear();
    },

    async authenticateClient(id, secret) {
      const { rows } = await db.query<{ id: string; name: string; secret_hash: string | null }>(
        'select id, name, secret_hash from identities where id = $1 and revoked_at is null',
        [id],
      );
      const row = rows[0];
      // Unknown identities, and identities without a secret, take as long as a wrong secret, so that response times do not reveal
      // which identities exist.
      const isRight = await verifySecret(secret, row?.secret_hash ?? (await unknownHash));
      if (!row || !isRight) return undefined;
      return { id: row.id, name: row.name };
    },

    async issueTokens(identityId, wanted) {
      const issued = wanted.map(({ scope, resourceServer }) => ({ token: makeAccessToken(), scope, resourceServer }));
      // Also deletes expired tokens, so that no other process has to.
      await db.query(
        `with over as (delete from access_tokens where expires_at < now())
         insert into access_tokens (hash, identity_id, scope, resource_server, expires_at)
         select n.hash, $2, n.scope, n.server, now() + $5::double precision * interval '1 second'
           from unnest($1::bytea[], $3::text[], $4::text[]) as n (hash, scope, server)`,
        [
          issued.map(({ token }) => hashToken(token)),
          identityId,
          issued.map(({ scope }) => scope),
          issued.map(({ resourceServer }) => resourceServer),
          TOKEN_LIFETIME_S,
        ],
      );
      return issued;
    },

    async revokeToken(identityId, token) {
      const hash = hashToken(token);
      await db.query('delete from access_tokens where hash = $1 and identity_id = $2', [hash, identityId]);
      cache.delete(hash.toString('base64'));
    },

    async authenticate(token) {
      const hash = hashToken(token);
      const key = hash.toString('base64');
      const known = cache.get(key);
      if (known && now() - known.readAtMs < CACHE_MS && known.expiresAtMs > now()) return known.identity;
      const read = provider?.mayBeOwn(token) ? await readProviderToken(provider, token) : await readToken(hash);
      if (!read) {
        cache.delete(key);
        return undefined;
      }
      if (cache.size >= MAX_CACHED) cache.clear();
      cache.set(key, read);
      return read.identity;
    },

    async ofProviderUser(user) {
      const { id, name } = await identityOfUser(user);
      return { id, name };
    },

    forget: () => cache.clear(),
  };
}

/** Whether the token is valid and belongs to an administrator. Throws only if this cannot be determined at the moment. */
export async function isAdministrator(identities: Pick<Identities, 'authenticate'>, token: string): Promise<boolean> {
  try {
    return (await identities.authenticate(token))?.isAdmin ?? false;
  } catch (error) {
    if (error instanceof TerminalError) return false;
    throw error;
  }
}

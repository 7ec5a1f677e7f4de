import type { ErrorCode } from '../contracts/errors';
import type { TokenScope } from '../contracts/http/tokens';

/** Decides who may do what. Everything that is not explicitly allowed here is denied. */

export interface Identity {
  id: string;
  name: string;
  isAdmin: boolean;
  /** IDs of the groups that the identity is a member of. */
  groups: ReadonlySet<string>;
  /** Set for the identity of an agent, which may register this endpoint and do nothing else. */
  agentOf?: { endpointId: string; ownerId: string; mayBePublic: boolean };
  resourceServer?: string;
  /** Set for API tokens and tokens of an OpenID Connect provider: when such a token ends, the streams that it opened end too. */
  token?: TokenOfIdentity;
}

export interface TokenOfIdentity {
  expiresAtMs: number;
  /** Id and scopes of an API token. Without scopes, the token may be used for everything. */
  id?: string;
  scopes?: ReadonlySet<TokenScope>;
}

/** The resource server of API tokens and provider tokens: they are valid for every resource server. */
export const EVERY_RESOURCE_SERVER = '*';

export const isTokenFor = ({ resourceServer }: Identity, ...servers: readonly string[]): boolean =>
  resourceServer !== undefined && (resourceServer === EVERY_RESOURCE_SERVER || servers.includes(resourceServer));

/** A resource that others may use when it is public or shared with a group. */
export interface Shared {
  kind: 'function' | 'endpoint';
  ownerId: string;
  isPublic: boolean;
  groupId: string | null;
}

/** A resource that only its owner may see. */
export interface Owned {
  kind: 'task' | 'task group' | 'submission' | 'group';
  ownerId: string;
}

/** The service as a whole: its identities and its metrics. */
export interface Service {
  kind: 'service';
}

export type Resource = Shared | Owned | Service;

/**
 * `view`: read the description. `use`: submit to the endpoint, or call the function. `manage`: change, delete, lock, cancel,
 * register again. `read`: read bodies of tasks and results.
 */
export type Action = 'view' | 'use' | 'manage' | 'read';

export type Decision = 'allow' | { deny: ErrorCode };

/** On the wire, GROUP_NOT_FOUND means a task group, so groups of identities use NOT_FOUND. */
const NOT_VISIBLE: Readonly<Record<Shared['kind'] | Owned['kind'], ErrorCode>> = {
  function: 'FUNCTION_NOT_FOUND',
  endpoint: 'ENDPOINT_NOT_FOUND',
  task: 'TASK_NOT_FOUND',
  'task group': 'GROUP_NOT_FOUND',
  submission: 'SUBMISSION_NOT_FOUND',
  group: 'NOT_FOUND',
};

export function decide(identity: Identity, action: Action, resource: Resource): Decision {
  if (identity.agentOf !== undefined) return { deny: 'FORBIDDEN' }; // it may only register, which api/v1/agents.ts checks
  if (resource.kind === 'service') return identity.isAdmin ? 'allow' : { deny: 'FORBIDDEN' };
  if (resource.ownerId === identity.id) return 'allow';
  if (resource.kind === 'function' || resource.kind === 'endpoint') return decideShared(identity, action, resource);
  // Administrators see and cancel the work of others and manage the members of all groups, but do not read bodies of others.
  if (identity.isAdmin && (action === 'view' || action === 'manage')) return 'allow';
  return { deny: NOT_VISIBLE[resource.kind] };
}

function decideShared(identity: Identity, action: Action, resource: Shared): Decision {
  const isShared = resource.isPublic || (resource.groupId !== null && identity.groups.has(resource.groupId));
  const isAdminAllowed = identity.isAdmin && (resource.kind === 'endpoint' || action === 'manage');
  if (action === 'view') return isShared || isAdminAllowed ? 'allow' : { deny: NOT_VISIBLE[resource.kind] };
  if (action === 'use') return isShared ? 'allow' : { deny: 'FORBIDDEN' };
  if (action === 'manage') {
    if (isAdminAllowed) return 'allow';
    return { deny: isShared ? 'FORBIDDEN' : NOT_VISIBLE[resource.kind] };
  }
  return { deny: 'FORBIDDEN' };
}

export function denial(kind: 'function' | 'endpoint', id: string, action: Action): string {
  const verbs: Record<Action, string> = { view: 'see', use: 'use', manage: 'change', read: 'read' };
  const advice = action === 'manage' ? 'only its owner or an administrator may' : 'ask its owner to share it';
  return `you may not ${verbs[action]} ${kind} ${id}; ${advice}`;
}

import type { ErrorCode } from '../contracts/errors';

/** The one place that decides who may do what. Whatever is not allowed here is denied. */

export interface Identity {
  id: string;
  name: string;
  isAdmin: boolean;
  /** Ids of the groups that the identity is a member of. */
  groups: ReadonlySet<string>;
  /** What the access token is for; only Flows looks at it. */
  resourceServer?: string;
}

/** Something that others may use when it is public or shared with a group. */
export interface Shared {
  kind: 'function' | 'endpoint';
  ownerId: string;
  isPublic: boolean;
  groupId: string | null;
}

/** Something that only its owner may see. */
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
 * `view`: read what it is. `use`: submit to the endpoint, or call the function. `manage`: change, delete, lock, cancel,
 * register again. `read`: the bodies of tasks and results.
 */
export type Action = 'view' | 'use' | 'manage' | 'read';

export type Decision = 'allow' | { deny: ErrorCode };

const NOT_VISIBLE: Readonly<Record<Shared['kind'] | Owned['kind'], ErrorCode>> = {
  function: 'FUNCTION_NOT_FOUND',
  endpoint: 'ENDPOINT_NOT_FOUND',
  task: 'TASK_NOT_FOUND',
  'task group': 'GROUP_NOT_FOUND',
  submission: 'SUBMISSION_NOT_FOUND',
  group: 'NOT_FOUND',
};

/** Decides about one action of one identity on one resource, with the code to answer when it is denied. */
export function decide(identity: Identity, action: Action, resource: Resource): Decision {
  if (resource.kind === 'service') return identity.isAdmin ? 'allow' : { deny: 'FORBIDDEN' };
  if (resource.ownerId === identity.id) return 'allow';
  if (resource.kind === 'function' || resource.kind === 'endpoint') return decideShared(identity, action, resource);
  // Members are managed by a group's owner or an administrator; bodies of others are nobody's business.
  if (resource.kind === 'group' && identity.isAdmin && action !== 'read') return 'allow';
  return { deny: NOT_VISIBLE[resource.kind] };
}

function decideShared(identity: Identity, action: Action, resource: Shared): Decision {
  const isShared = resource.isPublic || (resource.groupId !== null && identity.groups.has(resource.groupId));
  const isAdminsTask = identity.isAdmin && (resource.kind === 'endpoint' || action === 'manage');
  if (action === 'view') return isShared || isAdminsTask ? 'allow' : { deny: NOT_VISIBLE[resource.kind] };
  if (action === 'use') return isShared ? 'allow' : { deny: 'FORBIDDEN' };
  if (action === 'manage') {
    if (isAdminsTask) return 'allow';
    return { deny: isShared ? 'FORBIDDEN' : NOT_VISIBLE[resource.kind] };
  }
  return { deny: 'FORBIDDEN' };
}

/** The sentence for a caller who may not do this. */
export function denial(kind: 'function' | 'endpoint', id: string, action: Action): string {
  const deeds: Record<Action, string> = { view: 'see', use: 'use', manage: 'change', read: 'read' };
  return `you may not ${deeds[action]} ${kind} ${id}; ask its owner to share it`;
}

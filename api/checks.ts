import { TerminalError } from '../contracts/errors';
import { decide, denial, type Action, type Identity } from '../platform/access';
import type { Database } from '../platform/store/database';
import { findEndpoint, type EndpointRow } from '../platform/store/endpoints';
import { findFunction, type FunctionRow } from '../platform/store/functions';
import { findGroup } from '../platform/store/groups';

/** Functions that find an object and check access to it, or throw the error for the caller. */

export async function requireFunction(db: Database, identity: Identity, action: Action, id: string): Promise<FunctionRow> {
  const row = await findFunction(db, id);
  const subject = { kind: 'function', ids: [id] } as const;
  if (!row) throw new TerminalError('FUNCTION_NOT_FOUND', `function ${id} does not exist; register it first`, { subject });
  const decision = decide(identity, action, { kind: 'function', ...row });
  if (decision !== 'allow') throw new TerminalError(decision.deny, denial('function', id, action), { subject });
  return row;
}

export async function requireEndpoint(db: Database, identity: Identity, action: Action, id: string): Promise<EndpointRow> {
  return checkEndpoint(identity, action, id, await findEndpoint(db, id));
}

export function checkEndpoint(identity: Identity, action: Action, id: string, row: EndpointRow | undefined): EndpointRow {
  if (!row) throw unknownEndpoint(id);
  const decision = decide(identity, action, { ...row, kind: 'endpoint' });
  if (decision !== 'allow') {
    throw new TerminalError(decision.deny, denial('endpoint', id, action), { subject: { kind: 'endpoint', ids: [id] } });
  }
  return row;
}

export const unknownEndpoint = (id: string): TerminalError =>
  new TerminalError('ENDPOINT_NOT_FOUND', `endpoint ${id} does not exist or was deleted; check the ID`, {
    subject: { kind: 'endpoint', ids: [id] },
  });

export const NO_CONTAINERS = 'this service has no containers; install what the function needs on the machine of its endpoint';

export const unknownContainer = (id: string): TerminalError =>
  new TerminalError('NOT_FOUND', `container ${id} does not exist; ${NO_CONTAINERS}`, {
    subject: { kind: 'container', ids: [id] },
  });

/** To share something with a group, the identity must own the group or be a member. */
export async function requireGroup(db: Database, identity: Identity, id: string): Promise<void> {
  if (identity.groups.has(id)) return;
  const group = await findGroup(db, id);
  if (!group) throw new TerminalError('NOT_FOUND', `group ${id} does not exist`);
  if (group.ownerId !== identity.id) {
    throw new TerminalError('FORBIDDEN', `you are not a member of group ${group.id}; ask its owner to add you`);
  }
}

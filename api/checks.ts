import { TerminalError } from '../contracts/errors';
import { decide, denial, type Action, type Identity } from '../platform/access';
import type { Database } from '../platform/store/database';
import { findEndpoint, type EndpointRow } from '../platform/store/endpoints';
import { findFunction, type FunctionRow } from '../platform/store/functions';
import { findGroup } from '../platform/store/groups';

/**
 * Functions that find an object and check access to it, or throw the error for the caller. An object that is hidden from the
 * caller gets the same error, word for word, as an object that does not exist.
 *
 * Routes under `/v1` check `view` first, so that the ID of a hidden object gets 404. On the wires of released clients, `use` of a
 * hidden object gets 403.
 */

export async function requireFunction(
  db: Database,
  identity: Identity,
  actions: Action | readonly Action[],
  id: string,
): Promise<FunctionRow> {
  const row = await findFunction(db, id);
  if (!row) throw unknownFunction(id);
  for (const action of [actions].flat()) {
    const decision = decide(identity, action, { kind: 'function', ...row });
    if (decision === 'allow') continue;
    if (decision.deny === 'FUNCTION_NOT_FOUND') throw unknownFunction(id);
    throw new TerminalError(decision.deny, denial('function', id, action), { subject: { kind: 'function', ids: [id] } });
  }
  return row;
}

export async function requireEndpoint(
  db: Database,
  identity: Identity,
  actions: Action | readonly Action[],
  id: string,
): Promise<EndpointRow> {
  return checkEndpoint(identity, actions, id, await findEndpoint(db, id));
}

export function checkEndpoint(
  identity: Identity,
  actions: Action | readonly Action[],
  id: string,
  row: EndpointRow | undefined,
): EndpointRow {
  if (!row) throw unknownEndpoint(id);
  for (const action of [actions].flat()) {
    const decision = decide(identity, action, { ...row, kind: 'endpoint' });
    if (decision === 'allow') continue;
    if (decision.deny === 'ENDPOINT_NOT_FOUND') throw unknownEndpoint(id);
    throw new TerminalError(decision.deny, denial('endpoint', id, action), { subject: { kind: 'endpoint', ids: [id] } });
  }
  return row;
}

/** Throws while the endpoint's agent may not register: it was stopped remotely, or cut off. */
export function requireUnlocked({ id, lockedUntil }: Pick<EndpointRow, 'id' | 'lockedUntil'>): void {
  const lockedForS = ((lockedUntil?.getTime() ?? 0) - Date.now()) / 1_000;
  if (lockedForS <= 0) return;
  throw new TerminalError(
    'ENDPOINT_LOCKED',
    `endpoint ${id} was stopped remotely, or cut off because of what it sent; start it again in ${Math.ceil(lockedForS)} s`,
    { retryAfterS: lockedForS },
  );
}

const unknownFunction = (id: string): TerminalError =>
  new TerminalError(
    'FUNCTION_NOT_FOUND',
    `function ${id} does not exist, or is not shared with you; register it first, or ask its owner`,
    { subject: { kind: 'function', ids: [id] } },
  );

export const unknownEndpoint = (id: string): TerminalError =>
  new TerminalError(
    'ENDPOINT_NOT_FOUND',
    `endpoint ${id} does not exist, was deleted or is not shared with you; check the ID, or ask its owner`,
    { subject: { kind: 'endpoint', ids: [id] } },
  );

export const NO_CONTAINERS = 'this service has no containers; install what the function needs on the machine of its endpoint';

export const unknownContainer = (id: string): TerminalError =>
  new TerminalError('NOT_FOUND', `container ${id} does not exist; ${NO_CONTAINERS}`, {
    subject: { kind: 'container', ids: [id] },
  });

/** Sharing needs ownership or membership. `deny`: the error for groups of others; under `/v1`, as for an unknown group. */
export async function requireGroup(
  db: Database,
  identity: Identity,
  id: string,
  deny: 'NOT_FOUND' | 'FORBIDDEN' = 'NOT_FOUND',
): Promise<void> {
  if (identity.groups.has(id)) return;
  const group = await findGroup(db, id);
  if (group?.ownerId === identity.id) return;
  const code = group ? deny : 'NOT_FOUND';
  throw new TerminalError(code, `group ${id} does not exist, or you are not a member; ask its owner to add you`);
}

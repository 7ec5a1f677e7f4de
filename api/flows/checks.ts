import { isUuid } from '../../contracts/ids';
import { flowScope, FLOWS_SCOPE } from '../../contracts/scopes';
import { isTokenFor, type Identity } from '../../platform/access';
import { flowRoleOf, mayManageFlow, mayManageRun, mayStart, runRoleOf, type OwnFlowRole } from '../../platform/flow-access';
import type { Database } from '../../platform/store/database';
import { findRun, type RunRow } from '../../platform/store/flow-runs';
import { findFlow, type FlowRow } from '../../platform/store/flows';
import { FLOWS_RESOURCE_SERVER } from '../auth/scopes';
import { FlowsError } from './errors';

/** Functions that find a flow or run and check access to it, or throw the error for the caller. */

/** Throws unless the token is for the flows service. Some routes of runs need another token: see {@link requireTokenOf}. */
export function requireFlowsToken(identity: Identity): void {
  if (isTokenFor(identity, FLOWS_RESOURCE_SERVER)) return;
  throw new FlowsError(
    'MISSING_SCOPE',
    `This needs an access token of ${FLOWS_RESOURCE_SERVER}; ask for the scope ${FLOWS_SCOPE}.`,
  );
}

/** Throws unless the token is for the flow: starting, validating and resuming a run need such a token. */
export function requireTokenOf(flowId: string, identity: Identity): void {
  if (isTokenFor(identity, flowId)) return;
  throw new FlowsError('MISSING_SCOPE', `This needs an access token for the flow; ask for the scope ${flowScope(flowId)}.`);
}

const noSuch = (kind: 'flow' | 'run', id: string): FlowsError =>
  new FlowsError('NOT_FOUND', `No ${kind} with the id ${id.slice(0, 100)} exists, or you have no role on it.`);

const forbidden = (kind: 'flow' | 'run', id: string, permission: string): FlowsError =>
  new FlowsError(
    'FORBIDDEN',
    `You do not have the necessary permissions to perform this action on the ${kind} with id value ${id}. Missing permissions: ${permission}.`,
  );

/** The ID in the path. A malformed ID gets the same error as an unknown ID. */
export function idOf(params: Record<string, string>, kind: 'flow' | 'run'): string {
  const id = (params.id ?? '').toLowerCase();
  if (!isUuid(id)) throw noSuch(kind, id);
  return id;
}

export async function requireFlow(
  db: Database,
  identity: Identity,
  id: string,
  needed: 'view' | 'run' | 'manage',
): Promise<{ flow: FlowRow; role: OwnFlowRole }> {
  const flow = await findFlow(db, id);
  const role = flow && flowRoleOf(identity, flow);
  if (!flow || !role) throw noSuch('flow', id);
  if (needed === 'manage' && !mayManageFlow(role)) throw forbidden('flow', id, 'UPDATE');
  if (needed === 'run' && !mayStart(role)) throw forbidden('flow', id, 'RUN');
  return { flow, role };
}

export async function requireRun(db: Database, identity: Identity, id: string, needed: 'view' | 'manage'): Promise<RunRow> {
  const run = await findRun(db, id);
  const role = run && runRoleOf(identity, run);
  if (!run || !role) throw noSuch('run', id);
  if (needed === 'manage' && !mayManageRun(role)) throw forbidden('run', id, 'MANAGE');
  return run;
}

import { ALL_AUTHENTICATED, GROUP_URN, IDENTITY_URN, PUBLIC } from '../contracts/http/flows';
import type { Identity } from './access';
import type { RunRow } from './store/flow-runs';
import type { Caller, FlowRow } from './store/flows';

/** Decides who may do what with flows and runs. A caller without a role does not learn that the object exists. */

export const identityUrn = (id: string): string => IDENTITY_URN + id;

/** The identity and its groups, as lists of principals name them. */
export const urnsOf = (identity: Identity): string[] => [
  identityUrn(identity.id),
  ...[...identity.groups].map((id) => GROUP_URN + id),
];
export const callerOf = (identity: Identity): Caller => ({ id: identity.id, urns: urnsOf(identity) });

export type OwnFlowRole = 'flow_owner' | 'flow_administrator' | 'flow_starter' | 'flow_viewer';
type People = Pick<FlowRow, 'ownerId' | 'administrators' | 'starters' | 'viewers'>;

/** The strongest role that the identity has. Each role includes the weaker roles. */
export function flowRoleOf(identity: Identity, flow: People): OwnFlowRole | undefined {
  const urns = urnsOf(identity);
  const isIn = (list: readonly string[]): boolean => list.some((principal) => urns.includes(principal));
  if (flow.ownerId === identity.id) return 'flow_owner';
  if (isIn(flow.administrators)) return 'flow_administrator';
  if (isIn(flow.starters) || flow.starters.includes(ALL_AUTHENTICATED)) return 'flow_starter';
  if (isIn(flow.viewers) || flow.viewers.includes(PUBLIC)) return 'flow_viewer';
  return undefined;
}

export const mayManageFlow = (role: OwnFlowRole): boolean => role === 'flow_owner' || role === 'flow_administrator';
export const mayStart = (role: OwnFlowRole): boolean => role !== 'flow_viewer';

export type OwnRunRole = 'run_owner' | 'run_manager' | 'run_monitor';

/** The owner, administrators and run managers of a flow manage all of its runs. */
export function runRoleOf(
  identity: Identity,
  run: Pick<RunRow, 'ownerId' | 'managers' | 'monitors' | 'flow'>,
): OwnRunRole | undefined {
  const urns = urnsOf(identity);
  const isIn = (...lists: string[][]): boolean => lists.flat().some((principal) => urns.includes(principal));
  if (run.ownerId === identity.id) return 'run_owner';
  if (run.flow.ownerId === identity.id || isIn(run.managers, run.flow.administrators, run.flow.runManagers)) return 'run_manager';
  if (isIn(run.monitors, run.flow.runMonitors)) return 'run_monitor';
  return undefined;
}

export const mayManageRun = (role: OwnRunRole): boolean => role !== 'run_monitor';

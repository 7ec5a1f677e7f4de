import type { FlowDocument, RunDocument } from '../../contracts/http/flows';
import { flowScope } from '../../contracts/scopes';
import type { Identity } from '../../platform/access';
import { flowRoleOf, identityUrn, mayManageFlow, runRoleOf } from '../../platform/flow-access';
import type { RunRow } from '../../platform/store/flow-runs';
import type { FlowRow } from '../../platform/store/flows';

/** Flows and runs as the clients read them. */

/** A time as the hosted Globus service writes it. */
export const timeOf = (time: Date): string => time.toISOString().replace('Z', '000+00:00');

export function flowDocument(flow: FlowRow, identity: Identity, baseUrl: string): FlowDocument {
  const role = flowRoleOf(identity, flow) ?? 'flow_viewer';
  const manages = mayManageFlow(role);
  const shown = (list: string[]): string[] => (manages ? list : []);
  const owner = identityUrn(flow.ownerId);
  const url = `${baseUrl}/flows/${flow.id}`;
  return {
    id: flow.id,
    title: flow.title,
    subtitle: flow.subtitle,
    description: flow.description,
    keywords: flow.keywords,
    definition: (manages ? flow.definition : withoutPrivate(flow.definition)) as Record<string, unknown>,
    input_schema: flow.inputSchema,
    globus_auth_scope: flowScope(flow.id),
    globus_auth_username: `${flow.id}@clients.auth.globus.org`,
    flow_owner: owner,
    created_by: owner,
    flow_viewers: shown(flow.viewers),
    flow_starters: shown(flow.starters),
    flow_administrators: shown(flow.administrators),
    run_managers: shown(flow.runManagers),
    run_monitors: shown(flow.runMonitors),
    visible_to: shown(flow.viewers),
    runnable_by: shown(flow.starters),
    administered_by: shown(flow.administrators),
    user_role: role,
    subscription_id: flow.subscriptionId,
    authentication_policy_id: null,
    created_at: timeOf(flow.createdAt),
    updated_at: timeOf(flow.updatedAt),
    api_version: '1.0',
    synchronous: false,
    log_supported: true,
    types: ['Action'],
    principal_urn: identityUrn(flow.id),
    action_url: url,
    flow_url: url,
  };
}

export function runDocument(run: RunRow, identity: Identity): RunDocument {
  const owner = identityUrn(run.ownerId);
  return {
    run_id: run.id,
    action_id: run.id,
    flow_id: run.flowId,
    flow_title: run.flow.title,
    flow_last_updated: timeOf(run.flow.updatedAt),
    status: run.status,
    display_status: run.status,
    start_time: timeOf(run.startedAt),
    completion_time: run.completedAt ? timeOf(run.completedAt) : null,
    label: run.label,
    tags: run.tags,
    run_owner: owner,
    created_by: owner,
    run_managers: run.managers,
    run_monitors: run.monitors,
    manage_by: run.managers,
    monitor_by: run.monitors,
    user_role: runRoleOf(identity, run) ?? 'run_monitor',
    details: run.details,
  };
}

export function flowDescription({ flowId, flow }: RunRow): Record<string, unknown> {
  const owner = identityUrn(flow.ownerId);
  return {
    id: flowId,
    title: flow.title,
    subtitle: flow.subtitle,
    description: flow.description,
    keywords: flow.keywords,
    flow_owner: owner,
    created_by: owner,
    created_at: timeOf(flow.createdAt),
    updated_at: timeOf(flow.updatedAt),
    globus_auth_scope: flowScope(flowId),
  };
}

const PRIVATE_LIST = '__Private_Parameters';

/** A definition without the parameters that its author named private, and without the list of their names. */
export function withoutPrivate(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutPrivate);
  if (typeof value !== 'object' || value === null) return value;
  const fields = value as Record<string, unknown>;
  const names = Array.isArray(fields[PRIVATE_LIST]) ? fields[PRIVATE_LIST].map(String) : [];
  const isHidden = (key: string): boolean =>
    key === PRIVATE_LIST || names.some((name) => bare(name) === bare(key)) || key.startsWith('_private');
  return Object.fromEntries(
    Object.entries(fields)
      .filter(([key]) => !isHidden(key))
      .map(([key, inner]) => [key, withoutPrivate(inner)]),
  );
}

const bare = (key: string): string => key.replace(/\.[$=]$/, '');

/** A body without private keys, as logs and statuses show it. */
export const withoutPrivateKeys = (body: Record<string, unknown>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(body).filter(([key]) => !key.startsWith('_private')));

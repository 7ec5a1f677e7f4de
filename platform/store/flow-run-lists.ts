import type { FlowLogEntry } from '../../contracts/flows';
import type { Database } from './database';
import { FROM_RUNS, RUN_COLUMNS, runOf, type FlatRun, type RunRow } from './flow-runs';
import type { Caller, Page } from './flows';
import { pageSql, type OrderKey } from './pages';

/** Pages of runs, and of the log of a run. */

export const RUN_ROLES = ['run_owner', 'run_manager', 'run_monitor', 'flow_run_manager', 'flow_run_monitor'] as const;
export type RunRole = (typeof RUN_ROLES)[number];

export interface RunFilter {
  /** Undefined: any role that may see the run. */
  roles?: readonly RunRole[] | undefined;
  flowIds?: readonly string[] | undefined;
  statuses?: readonly string[] | undefined;
  label?: string | undefined;
  flowTitle?: string | undefined;
  /** From (inclusive), to (exclusive). */
  started?: readonly [Date | undefined, Date | undefined] | undefined;
  completed?: readonly [Date | undefined, Date | undefined] | undefined;
}

export const RUN_ORDER = {
  id: { sql: 'r.id', type: 'uuid' },
  start_time: { sql: 'r.started_at', type: 'timestamptz' },
  completion_time: { sql: `coalesce(r.completed_at, 'infinity')`, type: 'timestamptz' },
  status: { sql: 'r.status', type: 'text' },
  label: { sql: 'r.label', type: 'text' },
} as const satisfies Record<string, Omit<OrderKey, 'descending'>>;

export async function listRuns(
  db: Database,
  caller: Caller,
  filter: RunFilter,
  order: readonly OrderKey[],
  page: Page,
): Promise<(RunRow & { pageKey: string[] })[]> {
  const values: unknown[] = [];
  const push = (value: unknown): string => `$${values.push(value)}`;
  const me = `${push(caller.id)}::uuid`;
  const urns = `${push(caller.urns)}::text[]`;
  const ofFlow = {
    flow_run_manager: `(f.owner_id = ${me} or f.administrators && ${urns} or f.run_managers && ${urns})`,
    flow_run_monitor: `f.run_monitors && ${urns}`,
  };
  const byRole: Record<RunRole, string> = {
    run_owner: `r.owner_id = ${me}`,
    run_manager: `(r.managers && ${urns} or ${ofFlow.flow_run_manager})`,
    run_monitor: `(r.monitors && ${urns} or ${ofFlow.flow_run_monitor})`,
    ...ofFlow,
  };
  // A role may need neither parameter, but each must have a type.
  const where = [
    `${me} is not null and ${urns} is not null`,
    `(${(filter.roles ?? RUN_ROLES).map((role) => byRole[role]).join(' or ')})`,
  ];
  if (filter.flowIds) where.push(`r.flow_id = any (${push(filter.flowIds)}::uuid[])`);
  if (filter.statuses) where.push(`r.status = any (${push(filter.statuses)}::text[])`);
  const contains = (sql: string, text: string | undefined): void => {
    if (text !== undefined) where.push(`${sql} ilike ${push(`%${text.replace(/[\\%_]/g, '\\$&')}%`)}`);
  };
  contains('r.label', filter.label);
  contains('f.title', filter.flowTitle);
  const within = (sql: string, [from, to]: readonly [Date | undefined, Date | undefined] = [undefined, undefined]): void => {
    if (from) where.push(`${sql} >= ${push(from)}`);
    if (to) where.push(`${sql} < ${push(to)}`);
  };
  within('r.started_at', filter.started);
  within('r.completed_at', filter.completed);
  const sql = pageSql([...order, { ...RUN_ORDER.id, descending: false }], page.marker, push);
  const { rows } = await db.query<FlatRun & { pageKey: string[] }>(
    `select ${RUN_COLUMNS}, ${sql.key} ${FROM_RUNS} where ${where.join(' and ')} and ${sql.after}
      order by ${sql.orderBy} limit ${push(page.limit)}`,
    values,
  );
  return rows.map(({ pageKey, ...row }) => ({ ...runOf(row), pageKey }));
}

export async function listRunLog(
  db: Database,
  runId: string,
  page: { after: number | undefined; limit: number; reverse: boolean },
): Promise<(FlowLogEntry & { seq: number })[]> {
  const { rows } = await db.query<Omit<FlowLogEntry, 'time'> & { at: Date; seq: number }>(
    `select seq, at, code, description, details from flow_run_log
      where run_id = $1 and ($2::integer is null or seq ${page.reverse ? '<' : '>'} $2)
      order by seq ${page.reverse ? 'desc' : 'asc'} limit $3`,
    [runId, page.after ?? null, page.limit],
  );
  return rows.map(({ at, ...entry }) => ({ ...entry, time: at.toISOString() }));
}

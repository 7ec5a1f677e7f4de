import type { PoolClient } from 'pg';

import { FLOW_CODE, type FlowLogEntry, type FlowRunStatus } from '../../contracts/flows';
import type { Identity } from '../access';
import type { Database } from './database';
import type { Caller, Page } from './flows';
import { pageSql, type OrderKey } from './pages';
import { insertUnanswered, type AnsweredLater } from './unanswered-requests';

/** Runs of flows and their logs. The interpreter writes through {@link recordRun} only. */

type Queryable = Pick<PoolClient, 'query'>;

export interface NewRun {
  id: string;
  flowId: string;
  flowVersion: number;
  ownerId: string;
  label: string;
  tags: string[];
  managers: string[];
  monitors: string[];
  input: unknown;
  /** The input as the log shows it. */
  shownInput: unknown;
}

export interface RunRow {
  id: string;
  flowId: string;
  flowVersion: number;
  ownerId: string;
  label: string;
  tags: string[];
  managers: string[];
  monitors: string[];
  status: FlowRunStatus;
  details: Record<string, unknown>;
  generation: number;
  startedAt: Date;
  completedAt: Date | null;
  cancelRequestedAt: Date | null;
  flow: RunFlow;
}

/** What a run shows of its flow, as the flow is now. */
export interface RunFlow {
  title: string;
  subtitle: string;
  description: string;
  keywords: string[];
  ownerId: string;
  createdAt: Date;
  updatedAt: Date;
  administrators: string[];
  runManagers: string[];
  runMonitors: string[];
}

interface FlatRun extends Omit<RunRow, 'flow'> {
  title: string;
  subtitle: string;
  description: string;
  keywords: string[];
  flowOwnerId: string;
  createdAt: Date;
  updatedAt: Date;
  administrators: string[];
  runManagers: string[];
  runMonitors: string[];
}

const COLUMNS = `r.id, r.flow_id as "flowId", r.flow_version as "flowVersion", r.owner_id as "ownerId", r.label, r.tags, r.managers,
  r.monitors, r.status, r.details, r.generation, r.started_at as "startedAt", r.completed_at as "completedAt",
  r.cancel_requested_at as "cancelRequestedAt", f.title, f.subtitle, f.description, f.keywords, f.owner_id as "flowOwnerId",
  f.created_at as "createdAt", f.updated_at as "updatedAt", f.administrators, f.run_managers as "runManagers",
  f.run_monitors as "runMonitors"`;
const FROM = 'from flow_runs r join flows f on f.id = r.flow_id';

function runOf(flat: FlatRun): RunRow {
  const { title, subtitle, description, keywords, flowOwnerId, createdAt, updatedAt, ...rest } = flat;
  const { administrators, runManagers, runMonitors, ...run } = rest;
  const people = { administrators, runManagers, runMonitors };
  return { ...run, flow: { title, subtitle, description, keywords, ownerId: flowOwnerId, createdAt, updatedAt, ...people } };
}

/** The run, the first entry of its log, and what is needed to know a repeat whose first answer is lost, in one transaction. */
export async function insertRun(
  db: Database,
  run: NewRun,
  unanswered?: AnsweredLater,
  /** The caller, itself a workflow, starts the workflow of the run. */
  { startsItself = false } = {},
): Promise<void> {
  const client = await db.connect();
  const details = {
    code: FLOW_CODE.starting,
    description: 'The Flow Instance is preparing to start',
    details: { input: run.shownInput },
  };
  try {
    await client.query('begin');
    await client.query(
      `insert into flow_runs (id, flow_id, flow_version, owner_id, label, tags, managers, monitors, details, input, workflow_started_at)
       values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, case when $11 then now() end)`,
      [
        run.id,
        run.flowId,
        run.flowVersion,
        run.ownerId,
        run.label,
        run.tags,
        run.managers,
        run.monitors,
        JSON.stringify(details),
        JSON.stringify(run.input),
        startsItself,
      ],
    );
    const started = {
      time: new Date().toISOString(),
      code: FLOW_CODE.started,
      description: 'The Flow Instance started execution',
      details: { input: run.shownInput },
    };
    await recordRun(client, run.id, { entries: [started] });
    if (unanswered) await insertUnanswered(client, unanswered);
    await client.query('commit');
  } catch (error) {
    await client.query('rollback');
    throw error;
  } finally {
    client.release();
  }
}

export interface RunUpdate {
  status?: FlowRunStatus;
  /** As the clients read it. */
  details?: Record<string, unknown>;
  /** ISO 8601; null when the run goes on. */
  completionTime?: string | null;
  /** Numbered here, in this order. */
  entries: readonly FlowLogEntry[];
}

/** Call it in a transaction: it locks the run's row until the end of that. */
export async function recordRun(client: Queryable, runId: string, update: RunUpdate): Promise<void> {
  const { status, details, completionTime, entries } = update;
  const { rows } = await client.query<{ next: number }>(
    `update flow_runs set next_seq = next_seq + $2, status = coalesce($3, status), details = coalesce($4::json, details),
            completed_at = case when $5 then $6::timestamptz else completed_at end
      where id = $1 returning next_seq as next`,
    [
      runId,
      entries.length,
      status ?? null,
      details === undefined ? null : JSON.stringify(details),
      completionTime !== undefined,
      completionTime ?? null,
    ],
  );
  const next = rows[0]?.next;
  if (next === undefined || entries.length === 0) return; // the run was released
  await client.query(
    `insert into flow_run_log (run_id, seq, at, code, description, details)
     select $1, $2 + e.n - 1, e.at, e.code, e.description, e.details
       from unnest($3::timestamptz[], $4::text[], $5::text[], $6::json[]) with ordinality as e (at, code, description, details, n)`,
    [
      runId,
      next - entries.length,
      entries.map(({ time }) => time),
      entries.map(({ code }) => code),
      entries.map(({ description }) => description),
      entries.map((entry) => JSON.stringify(entry.details)),
    ],
  );
}

export interface RunStart {
  runId: string;
  flowId: string;
  title: string;
  ownerId: string;
  ownerName: string;
  definition: unknown;
  /** The body of the start. */
  input: unknown;
  generation: number;
  startTime: string;
}

/** What the interpreter begins with; undefined when the run was released. */
export async function readRunStart(db: Queryable, runId: string): Promise<RunStart | undefined> {
  const { rows } = await db.query<Omit<RunStart, 'startTime'> & { startedAt: Date }>(
    `select r.id as "runId", r.flow_id as "flowId", f.title, r.owner_id as "ownerId", i.name as "ownerName", v.definition, r.input,
            r.generation, r.started_at as "startedAt"
       ${FROM} join flow_versions v on v.flow_id = r.flow_id and v.version = r.flow_version join identities i on i.id = r.owner_id
      where r.id = $1`,
    [runId],
  );
  const row = rows[0];
  if (!row) return undefined;
  const { startedAt, ...rest } = row;
  return { ...rest, startTime: startedAt.toISOString() };
}

/** Whom a run acts as: its owner. Undefined when the run is gone or its owner was revoked. */
export async function readRunIdentity(db: Queryable, runId: string): Promise<Identity | undefined> {
  const { rows } = await db.query<Omit<Identity, 'groups'> & { groups: string[] }>(
    `select i.id, i.name, i.is_admin as "isAdmin",
            array(select m.group_id::text from group_members m where m.identity_id = i.id) as groups
       from flow_runs r join identities i on i.id = r.owner_id where r.id = $1 and i.revoked_at is null`,
    [runId],
  );
  const row = rows[0];
  return row && { ...row, groups: new Set(row.groups) };
}

export async function findRun(db: Database, id: string): Promise<RunRow | undefined> {
  const { rows } = await db.query<FlatRun>({ name: 'find-run', text: `select ${COLUMNS} ${FROM} where r.id = $1`, values: [id] });
  return rows[0] && runOf(rows[0]);
}

/** Definition and schema as at the start of the run. */
export async function readRunDefinition(db: Database, run: RunRow): Promise<{ definition: unknown; inputSchema: unknown }> {
  const { rows } = await db.query<{ definition: unknown; inputSchema: unknown }>(
    'select definition, input_schema as "inputSchema" from flow_versions where flow_id = $1 and version = $2',
    [run.flowId, run.flowVersion],
  );
  return rows[0]!; // a foreign key in all but name: versions are never deleted
}

export async function updateRun(
  db: Database,
  id: string,
  run: Pick<RunRow, 'label' | 'tags' | 'managers' | 'monitors'>,
): Promise<void> {
  await db.query('update flow_runs set label = $2, tags = $3, managers = $4, monitors = $5 where id = $1', [
    id,
    run.label,
    run.tags,
    run.managers,
    run.monitors,
  ]);
}

/** False when the run has ended or was cancelled already. */
export async function noteCancelRequest(db: Database, id: string): Promise<boolean> {
  const { rowCount } = await db.query(
    `update flow_runs set cancel_requested_at = coalesce(cancel_requested_at, now())
      where id = $1 and status in ('ACTIVE', 'INACTIVE')`,
    [id],
  );
  return rowCount === 1;
}

/** Makes a failed run active again, with a log entry. Undefined when it is not failed or inactive any more; else its generation. */
export async function reopenRun(db: Database, id: string): Promise<number | undefined> {
  const client = await db.connect();
  try {
    await client.query('begin');
    const { rows } = await client.query<{ generation: number }>(
      `update flow_runs set generation = generation + 1, cancel_requested_at = null, workflow_started_at = null, accepted_at = now()
        where id = $1 and status in ('FAILED', 'INACTIVE') returning generation`,
      [id],
    );
    const generation = rows[0]?.generation;
    if (generation !== undefined) {
      const resumed = { code: FLOW_CODE.resumed, description: 'The Flow Instance was resumed from the state that failed' };
      await recordRun(client, id, {
        status: 'ACTIVE',
        details: { ...resumed, details: {} },
        completionTime: null,
        entries: [{ ...resumed, time: new Date().toISOString(), details: {} }],
      });
    }
    await client.query('commit');
    return generation;
  } catch (error) {
    await client.query('rollback');
    throw error;
  } finally {
    client.release();
  }
}

/** False when the run goes on, or is gone already. */
export async function deleteRun(db: Database, id: string): Promise<boolean> {
  const { rowCount } = await db.query(`delete from flow_runs where id = $1 and status in ('SUCCEEDED', 'FAILED')`, [id]);
  return rowCount === 1;
}

export async function removeOldRuns(db: Database, olderThanDays: number): Promise<number> {
  const { rowCount } = await db.query(
    `delete from flow_runs where status in ('SUCCEEDED', 'FAILED') and completed_at < now() - $1::double precision * interval '1 day'`,
    [olderThanDays],
  );
  return rowCount ?? 0;
}

export async function markRunStarted(db: Database, id: string, generation: number): Promise<void> {
  await db.query('update flow_runs set workflow_started_at = now() where id = $1 and generation = $2', [id, generation]);
}

export interface UnstartedRun {
  runId: string;
  flowId: string;
  title: string;
  ownerId: string;
  generation: number;
  isCancelled: boolean;
}

/** Accepted runs that nobody was seen to start. */
export async function listUnstartedRuns(db: Database, before: Date, limit: number): Promise<UnstartedRun[]> {
  const { rows } = await db.query<UnstartedRun>(
    `select r.id as "runId", r.flow_id as "flowId", f.title, r.owner_id as "ownerId", r.generation,
            r.cancel_requested_at is not null as "isCancelled"
       ${FROM} where r.workflow_started_at is null and r.status = 'ACTIVE' and r.accepted_at < $1 order by r.accepted_at limit $2`,
    [before, limit],
  );
  return rows;
}

export const RUN_ROLES = ['run_owner', 'run_manager', 'run_monitor', 'flow_run_manager', 'flow_run_monitor'] as const;
export type RunRole = (typeof RUN_ROLES)[number];

export interface RunFilter {
  /** Undefined: whoever may see the run. */
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
    `select ${COLUMNS}, ${sql.key} ${FROM} where ${where.join(' and ')} and ${sql.after}
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

import type { PoolClient } from 'pg';

import { FLOW_CODE, type FlowRunStatus } from '../../contracts/flows';
import type { Database } from './database';
import { recordRun } from './flow-run-progress';
import { inTransaction } from './transactions';
import { insertUnanswered, type AnsweredLater } from './unanswered-requests';

/** Creates, reads, changes and deletes runs of flows. flow-run-progress.ts has the progress of runs. */

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

/** What a run shows of its flow, with the flow's current values. */
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

export interface FlatRun extends Omit<RunRow, 'flow'> {
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

export const RUN_COLUMNS = `r.id, r.flow_id as "flowId", r.flow_version as "flowVersion", r.owner_id as "ownerId", r.label, r.tags, r.managers,
  r.monitors, r.status, r.details, r.generation, r.started_at as "startedAt", r.completed_at as "completedAt",
  r.cancel_requested_at as "cancelRequestedAt", f.title, f.subtitle, f.description, f.keywords, f.owner_id as "flowOwnerId",
  f.created_at as "createdAt", f.updated_at as "updatedAt", f.administrators, f.run_managers as "runManagers",
  f.run_monitors as "runMonitors"`;
export const FROM_RUNS = 'from flow_runs r join flows f on f.id = r.flow_id';

export function runOf(flat: FlatRun): RunRow {
  const { title, subtitle, description, keywords, flowOwnerId, createdAt, updatedAt, ...rest } = flat;
  const { administrators, runManagers, runMonitors, ...run } = rest;
  const people = { administrators, runManagers, runMonitors };
  return { ...run, flow: { title, subtitle, description, keywords, ownerId: flowOwnerId, createdAt, updatedAt, ...people } };
}

/** Inserts and returns, in one transaction, the run, its first log entry, and what is needed to recognize a repeated request. */
export async function insertRun(
  db: Database,
  run: NewRun,
  unanswered?: AnsweredLater,
  /** `startsItself`: the caller is a workflow and starts the workflow of the run itself. */
  { startsItself = false } = {},
): Promise<RunRow> {
  const details = {
    code: FLOW_CODE.starting,
    description: 'The Flow Instance is preparing to start',
    details: { input: run.shownInput },
  };
  return inTransaction(db, async (client) => {
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
    return (await findRun(client, run.id))!; // inserted above
  });
}

export async function findRun(db: Pick<PoolClient, 'query'>, id: string): Promise<RunRow | undefined> {
  const { rows } = await db.query<FlatRun>({
    name: 'find-run',
    text: `select ${RUN_COLUMNS} ${FROM_RUNS} where r.id = $1`,
    values: [id],
  });
  return rows[0] && runOf(rows[0]);
}

/** The definition and the schema of the version with which the run started. */
export async function readRunDefinition(db: Database, run: RunRow): Promise<{ definition: unknown; inputSchema: unknown }> {
  const { rows } = await db.query<{ definition: unknown; inputSchema: unknown }>(
    'select definition, input_schema as "inputSchema" from flow_versions where flow_id = $1 and version = $2',
    [run.flowId, run.flowVersion],
  );
  return rows[0]!; // exists, because versions are never deleted
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

export async function deleteRun(db: Database, id: string): Promise<boolean> {
  const { rowCount } = await db.query(`delete from flow_runs where id = $1 and status in ('SUCCEEDED', 'FAILED')`, [id]);
  return rowCount === 1;
}

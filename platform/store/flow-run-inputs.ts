import type { PoolClient } from 'pg';

import type { Identity } from '../access';

/** What the interpreter reads when it starts to work on a run. */

type Queryable = Pick<PoolClient, 'query'>;

export interface RunStart {
  runId: string;
  flowId: string;
  title: string;
  ownerId: string;
  ownerName: string;
  definition: unknown;
  input: unknown;
  generation: number;
  startTime: string;
}

export async function readRunStart(db: Queryable, runId: string): Promise<RunStart | undefined> {
  const { rows } = await db.query<Omit<RunStart, 'startTime'> & { startedAt: Date }>(
    `select r.id as "runId", r.flow_id as "flowId", f.title, r.owner_id as "ownerId", i.name as "ownerName", v.definition, r.input,
            r.generation, r.started_at as "startedAt"
       from flow_runs r join flows f on f.id = r.flow_id join flow_versions v on v.flow_id = r.flow_id and v.version = r.flow_version join identities i on i.id = r.owner_id
      where r.id = $1`,
    [runId],
  );
  const row = rows[0];
  if (!row) return undefined;
  const { startedAt, ...rest } = row;
  return { ...rest, startTime: startedAt.toISOString() };
}

/** The identity as which a run acts: its owner. Undefined when the run was deleted or its owner was revoked. */
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

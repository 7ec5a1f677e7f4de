import type { Database } from './database';
import { pageSql, type OrderKey } from './pages';
import { inTransaction } from './transactions';
import { insertUnanswered, type AnsweredLater } from './unanswered-requests';

/** Flows and the versions of their definitions. */

export interface FlowPeople {
  viewers: string[];
  starters: string[];
  administrators: string[];
  runManagers: string[];
  runMonitors: string[];
}

export interface FlowTexts {
  title: string;
  subtitle: string;
  description: string;
  keywords: string[];
  subscriptionId: string | null;
}

export interface FlowRow extends FlowPeople, FlowTexts {
  id: string;
  ownerId: string;
  version: number;
  createdAt: Date;
  updatedAt: Date;
  definition: unknown;
  inputSchema: unknown;
}

export type NewFlow = Omit<FlowRow, 'version' | 'createdAt' | 'updatedAt'>;

const COLUMNS = `f.id, f.owner_id as "ownerId", f.version, f.title, f.subtitle, f.description, f.keywords, f.viewers, f.starters,
  f.administrators, f.run_managers as "runManagers", f.run_monitors as "runMonitors", f.subscription_id as "subscriptionId",
  f.created_at as "createdAt", f.updated_at as "updatedAt", v.definition, v.input_schema as "inputSchema"`;
const FROM = 'from flows f join flow_versions v on v.flow_id = f.id and v.version = f.version';

const valuesOf = (flow: Omit<NewFlow, 'definition' | 'inputSchema'>): unknown[] => [
  flow.id,
  flow.ownerId,
  flow.title,
  flow.subtitle,
  flow.description,
  flow.keywords,
  flow.viewers,
  flow.starters,
  flow.administrators,
  flow.runManagers,
  flow.runMonitors,
  flow.subscriptionId,
];

/** Inserts, in one transaction, the flow, its first version, and what is needed to recognize a repeated request. */
export async function insertFlow(db: Database, flow: NewFlow, unanswered?: AnsweredLater): Promise<FlowRow> {
  return inTransaction(db, async (client) => {
    await client.query(
      `insert into flows (id, owner_id, title, subtitle, description, keywords, viewers, starters, administrators, run_managers,
                          run_monitors, subscription_id) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
      valuesOf(flow),
    );
    await client.query('insert into flow_versions (flow_id, version, definition, input_schema) values ($1, 1, $2, $3)', [
      flow.id,
      JSON.stringify(flow.definition),
      JSON.stringify(flow.inputSchema),
    ]);
    if (unanswered) await insertUnanswered(client, unanswered);
    const { rows } = await client.query<FlowRow>(`select ${COLUMNS} ${FROM} where f.id = $1`, [flow.id]);
    return rows[0]!; // inserted above
  });
}

/** Updates the flow. With `isNewVersion`, its definition and schema become the next version. Undefined for a deleted flow. */
export async function updateFlow(db: Database, flow: FlowRow, isNewVersion: boolean): Promise<FlowRow | undefined> {
  await db.query(
    `with changed as (
       update flows set owner_id = $2, title = $3, subtitle = $4, description = $5, keywords = $6, viewers = $7, starters = $8,
                        administrators = $9, run_managers = $10, run_monitors = $11, subscription_id = $12,
                        version = version + case when $13 then 1 else 0 end, updated_at = now()
        where id = $1 and deleted_at is null returning id, version)
     insert into flow_versions (flow_id, version, definition, input_schema)
     select id, version, $14::json, $15::json from changed where $13`,
    [...valuesOf(flow), isNewVersion, JSON.stringify(flow.definition), JSON.stringify(flow.inputSchema)],
  );
  return findFlow(db, flow.id);
}

export async function findFlow(db: Database, id: string): Promise<FlowRow | undefined> {
  const { rows } = await db.query<FlowRow>({
    name: 'find-flow',
    text: `select ${COLUMNS} ${FROM} where f.id = $1 and f.deleted_at is null`,
    values: [id],
  });
  return rows[0];
}

/** Marks the flow as deleted; its runs and versions stay. Returns the time; null when the flow was already deleted. */
export async function deleteFlow(db: Database, id: string): Promise<Date | null> {
  const { rows } = await db.query<{ deletedAt: Date }>(
    'update flows set deleted_at = now() where id = $1 and deleted_at is null returning deleted_at as "deletedAt"',
    [id],
  );
  return rows[0]?.deletedAt ?? null;
}

export const FLOW_ROLES = [
  'flow_owner',
  'flow_administrator',
  'flow_starter',
  'flow_viewer',
  'run_manager',
  'run_monitor',
] as const;
export type FlowRole = (typeof FLOW_ROLES)[number];

export interface FlowFilter {
  /** Undefined: any role that may see the flow. */
  roles?: readonly FlowRole[] | undefined;
  /** In title, subtitle, description or keywords. */
  text?: string | undefined;
  title?: string | undefined;
  subtitle?: string | undefined;
  description?: string | undefined;
  keywords?: string | undefined;
  scopeString?: string | undefined;
}

export interface Page {
  marker: string | undefined;
  limit: number;
}

const flowScopeSql = `'https://auth.globus.org/scopes/' || f.id::text || '/flow_' || replace(f.id::text, '-', '_') || '_user'`;
export const FLOW_ORDER = {
  id: { sql: 'f.id', type: 'uuid' },
  scope_string: { sql: flowScopeSql, type: 'text' },
  flow_owner: { sql: 'f.owner_id', type: 'uuid' },
  flow_administrators: { sql: `array_to_string(f.administrators, ',')`, type: 'text' },
  title: { sql: 'f.title', type: 'text' },
  created_at: { sql: 'f.created_at', type: 'timestamptz' },
  updated_at: { sql: 'f.updated_at', type: 'timestamptz' },
} as const satisfies Record<string, Omit<OrderKey, 'descending'>>;

/** The caller's ID, and every URN that names the caller or one of its groups. */
export interface Caller {
  id: string;
  urns: string[];
}

export async function listFlows(
  db: Database,
  caller: Caller,
  filter: FlowFilter,
  order: readonly OrderKey[],
  page: Page,
): Promise<(FlowRow & { pageKey: string[] })[]> {
  const values: unknown[] = [];
  const push = (value: unknown): string => `$${values.push(value)}`;
  const me = `${push(caller.id)}::uuid`;
  const urns = `${push(caller.urns)}::text[]`;
  const has = (column: string, everybody?: string): string =>
    `(f.${column} && ${urns}${everybody === undefined ? '' : ` or '${everybody}' = any (f.${column})`})`;
  const byRole: Record<FlowRole, string> = {
    flow_owner: `f.owner_id = ${me}`,
    flow_administrator: has('administrators'),
    flow_starter: has('starters', 'all_authenticated_users'),
    flow_viewer: has('viewers', 'public'),
    run_manager: has('run_managers'),
    run_monitor: has('run_monitors'),
  };
  const seen = [byRole.flow_owner, byRole.flow_administrator, byRole.flow_starter, byRole.flow_viewer];
  // A role may need neither parameter, but each must have a type.
  const where = [
    `${me} is not null and ${urns} is not null`,
    'f.deleted_at is null',
    `(${(filter.roles?.map((role) => byRole[role]) ?? seen).join(' or ')})`,
  ];
  const contains = (sql: string, text: string | undefined): void => {
    if (text !== undefined) where.push(`${sql} ilike ${push(`%${text.replace(/[\\%_]/g, '\\$&')}%`)}`);
  };
  const words = `array_to_string(f.keywords, ' ')`;
  contains(`(f.title || ' ' || f.subtitle || ' ' || f.description || ' ' || ${words})`, filter.text);
  contains('f.title', filter.title);
  contains('f.subtitle', filter.subtitle);
  contains('f.description', filter.description);
  contains(words, filter.keywords);
  if (filter.scopeString !== undefined) where.push(`${flowScopeSql} = ${push(filter.scopeString)}`);
  const sql = pageSql([...order, { ...FLOW_ORDER.id, descending: false }], page.marker, push);
  const { rows } = await db.query<FlowRow & { pageKey: string[] }>(
    `select ${COLUMNS}, ${sql.key} ${FROM} where ${where.join(' and ')} and ${sql.after}
      order by ${sql.orderBy} limit ${push(page.limit)}`,
    values,
  );
  return rows;
}

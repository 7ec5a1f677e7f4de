import type { Pool } from 'pg';

import type { Violation } from './check-answers';

/** PostgreSQL itself: what is stored, and what nobody would ever finish. */

export interface StoredTask {
  id: string;
  state: string;
  /** The value or the error as readable text; of a pickle, the strings in it can be found. */
  answer: string | undefined;
  attempts: number;
  losses: number;
  createdMs: number;
  answeredMs: number;
  /** When the answer was marked as delivered. */
  deliveredMs: number;
}

/** Answers of large calls are padded. */
const ANSWER_CHARS = 8_000;

export async function readTasks(store: Pool): Promise<Map<string, StoredTask>> {
  const { rows } = await store.query<{
    id: string;
    state: string;
    attempt: number;
    losses: number;
    answered_at: Date | null;
    delivered_at: Date | null;
    data: string | null;
  }>(
    `select t.id, t.state, t.attempt, t.losses, t.answered_at, t.delivered_at,
            left(convert_from(substring(r.frame from 2), 'UTF8')::json #>> '{data,data}', $1) as data
       from tasks t left join results r on r.id = t.id`,
    [ANSWER_CHARS],
  );
  return new Map(
    rows.map(({ id, state, attempt, losses, answered_at, delivered_at, data }) => [
      id,
      {
        id,
        state,
        answer: data === null ? undefined : readable(data),
        attempts: attempt,
        losses,
        createdMs: parseInt(id.replaceAll('-', '').slice(0, 12), 16),
        answeredMs: answered_at?.getTime() ?? Date.now(),
        deliveredMs: delivered_at?.getTime() ?? Date.now(),
      },
    ]),
  );
}

/** Clients of Python send pickles in base64 behind an identifier of two characters; everything else is text. */
function readable(data: string): string {
  if (!/^0\d\n/.test(data)) return data;
  return Buffer.from(data.slice(3), 'base64').toString('latin1');
}

const LEFTOVERS: readonly { rule: string; query: string }[] = [
  {
    rule: 'no task is left open',
    query: `select t.id || ' is ' || t.state as what from tasks t where t.state in ('waiting', 'delayed', 'dispatched', 'running')`,
  },
  {
    rule: 'no submission is left open',
    query: `select s.id || ' is ' || s.state || ', ' || s.open || ' open' as what from submissions s
             where s.finished_at is null or s.open <> 0`,
  },
  {
    rule: 'an answered task has its result, and only an answered one',
    query: `select coalesce(t.id, r.id) || ' is ' || coalesce(t.state, 'no task') as what
              from tasks t full join results r on r.id = t.id
             where (t.answered_at is null) <> (r.id is null)`,
  },
  {
    rule: 'no answer is left undelivered',
    query: `select t.id::text as what from tasks t where t.answered_at is not null and t.delivered_at is null`,
  },
  {
    rule: 'no place in a window is left taken',
    query: `select q.id || ' counts ' || q.in_flight as what from endpoint_queues q where q.in_flight <> 0`,
  },
  {
    rule: 'the answers of a task group are numbered without gaps',
    query: `select g.id || ': ' || count(r.id) || ' answers, the last is number ' || g.last_seq as what
              from task_groups g left join results r on r.task_group_id = g.id
             group by g.id having count(r.id) <> g.last_seq or count(distinct r.seq) <> g.last_seq`,
  },
  { rule: 'no message was put aside', query: `select d.queue || ': ' || d.reason as what from dead_letters d` },
  { rule: 'no uploaded result is left over', query: `select u.id || ', attempt ' || u.attempt as what from uploads u` },
  {
    rule: 'no transaction is left open',
    query: `select a.pid || ' since ' || a.xact_start || ': ' || left(a.query, 200) as what from pg_stat_activity a
             where a.datname = current_database() and a.state like 'idle in transaction%' and a.xact_start < now() - interval '10 s'`,
  },
];

/** What must be empty once the system is idle. */
export async function findLeftovers(store: Pool): Promise<Violation[]> {
  const found = await Promise.all(
    LEFTOVERS.map(async ({ rule, query }) => {
      const { rows } = await store.query<{ what: string }>(query);
      return rows.map(({ what }) => ({ rule, what }));
    }),
  );
  return found.flat();
}

export interface Span {
  fromMs: number;
  toMs: number;
}

/** How long after a fault of the agent an attempt may still be found lost. */
const NOTICED_WITHIN_MS = 15_000;

/**
 * An attempt is lost with its agent only: for every other fault the agent still has it, or its answer is on its way.
 */
export function checkLosses(tasks: Iterable<StoredTask>, agentFaults: readonly Span[]): Violation[] {
  return [...tasks].flatMap(({ id, losses, createdMs, answeredMs }) => {
    const allowed = agentFaults.filter(({ fromMs, toMs }) => createdMs < toMs + NOTICED_WITHIN_MS && answeredMs > fromMs).length;
    if (losses <= allowed) return [];
    const seconds = ((answeredMs - createdMs) / 1_000).toFixed(1);
    return [{ rule: 'an attempt is lost with its agent only', what: `${id} lost ${losses}, answered after ${seconds} s` }];
  });
}

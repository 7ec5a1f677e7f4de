import type { Database } from './database';
import { WITHOUT_FLUSH } from './without-flush';

/** The processes of the service, whose IDs are new for each start. Each renews a lease, and names its sessions after its ID. */

export const sessionNameOf = (process: string): string => `funcx ${process}`;

/** How often each process calls {@link renewLease}. */
export const LEASE_RENEWAL_MS = 500;

export async function renewLease(db: Database, process: string): Promise<void> {
  await db.query({
    name: 'renew-lease',
    text: `insert into api_processes (id, alive_at) select $1, now() from ${WITHOUT_FLUSH}
           on conflict (id) do update set alive_at = now(), taken_over_at = null, taken_over_by = null`,
    values: [process],
  });
}

export interface ServiceProcess {
  id: string;
  /** When it last renewed its lease. */
  aliveAt: Date;
  /** How long ago that was; milliseconds. */
  ageMs: number;
  /** How long ago a process last began to continue what this one had begun; milliseconds. Null if none did since the renewal. */
  takenOverMs: number | null;
  takenOverBy: string | null;
  /**
   * The operating system closes the sessions of a process that is killed. A process that lost its sessions has others when it
   * renews its lease the next time.
   */
  hasSession: boolean;
}

/** Processes that renewed their lease within `withinMs`. */
export async function listProcesses(db: Database, withinMs: number): Promise<ServiceProcess[]> {
  const { rows } = await db.query<ServiceProcess>({
    name: 'list-processes',
    text: `select p.id, p.alive_at as "aliveAt", extract(epoch from now() - p.alive_at)::double precision * 1000 as "ageMs",
                  extract(epoch from now() - p.taken_over_at)::double precision * 1000 as "takenOverMs",
                  p.taken_over_by as "takenOverBy",
                  exists (select from pg_stat_activity a where a.application_name = 'funcx ' || p.id) as "hasSession"
             from api_processes p
            where p.alive_at > now() - $1::double precision * interval '1 millisecond'`,
    values: [withinMs],
  });
  return rows;
}

/** Records that the process `by` has continued what these had begun since they were listed, unless they live again. */
export async function markTakenOver(db: Database, processes: readonly ServiceProcess[], by: string): Promise<void> {
  await db.query(
    `update api_processes p set taken_over_at = p.alive_at + given.age_ms * interval '1 millisecond', taken_over_by = $4
       from unnest($1::uuid[], $2::double precision[], $3::double precision[]) as given (id, alive_s, age_ms)
      where p.id = given.id and abs(extract(epoch from p.alive_at) - given.alive_s) < 0.002`,
    [
      processes.map(({ id }) => id),
      processes.map(({ aliveAt }) => aliveAt.getTime() / 1_000),
      processes.map(({ ageMs }) => ageMs),
      by,
    ],
  );
}

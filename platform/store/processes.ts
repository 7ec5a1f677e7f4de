import type { Database } from './database';

/** The processes of the service, whose IDs are new for each start. Each renews a lease, and names its sessions after its ID. */

export const sessionNameOf = (process: string): string => `funcx ${process}`;

/** Call every second. */
export async function renewLease(db: Database, process: string): Promise<void> {
  await db.query({
    name: 'renew-lease',
    text: `insert into api_processes (id, alive_at) values ($1, now()) on conflict (id) do update set alive_at = now()`,
    values: [process],
  });
}

export interface ServiceProcess {
  id: string;
  /** When it last renewed its lease. */
  aliveAt: Date;
  /** How long ago that was; milliseconds. */
  ageMs: number;
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
                  exists (select from pg_stat_activity a where a.application_name = 'funcx ' || p.id) as "hasSession"
             from api_processes p
            where p.alive_at > now() - $1::double precision * interval '1 millisecond'`,
    values: [withinMs],
  });
  return rows;
}

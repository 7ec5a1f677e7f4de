import type { Database } from './database';

/**
 * The broker may still create a user this long after the process that asked for it gave up: requests wait in the sockets of a
 * broker that stands still.
 */
const CREATED_WITHIN_S = 60;

/**
 * Call when the broker has deleted these users. The rows of recent users stay for a while and expire: a user that the broker
 * creates after its deletion is then deleted with the other expired users.
 */
export async function forgetBrokerUsers(db: Database, names: readonly string[]): Promise<void> {
  await db.query(
    `with recent as (
       update broker_users set expires_at = now() + $2::double precision * interval '1 second'
        where name = any ($1) and created_at > now() - $2::double precision * interval '1 second' returning name
     )
     delete from broker_users where name = any ($1) and name not in (select name from recent)`,
    [names, CREATED_WITHIN_S],
  );
}

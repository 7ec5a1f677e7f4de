import { Pool, types } from 'pg';

import type { Logger } from '../log';

/** The Postgres pool. */

export type Database = Pool;

// int8 counts and sequence numbers stay below 2^53.
types.setTypeParser(types.builtins.INT8, (text) => Number(text));

/** How long a caller waits for a connection: a free one of the pool, or a new one. */
const CONNECT_TIMEOUT_MS = 12_000;
/** The server ends a longer statement. Chores that take longer set another one. */
const STATEMENT_TIMEOUT_MS = 12_000;
/** For a server that does not answer at all; longer, so that a live server's own message comes first. */
const QUERY_TIMEOUT_MS = 14_000;
const KEEPALIVE_DELAY_MS = 5_000;

export interface DatabaseTimeouts {
  connectMs: number;
  statementMs: number;
  queryMs: number;
}

/**
 * Every query ends in bounded time, also when the server hangs or the network drops its packets: the query is rejected and
 * its connection closed.
 */
export function openDatabase(
  url: string,
  maxConnections: number,
  log: Logger,
  { connectMs, statementMs, queryMs }: DatabaseTimeouts = {
    connectMs: CONNECT_TIMEOUT_MS,
    statementMs: STATEMENT_TIMEOUT_MS,
    queryMs: QUERY_TIMEOUT_MS,
  },
): Database {
  const pool = new Pool({
    connectionString: url,
    max: maxConnections,
    application_name: 'funcx',
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEPALIVE_DELAY_MS,
    connectionTimeoutMillis: connectMs,
    statement_timeout: statementMs,
    query_timeout: queryMs,
  });
  // The pool listens only while a connection is idle. One that is lost in a transaction, between two statements, fails the next
  // statement; without a listener it would also end the process.
  pool.on('connect', (client) => void client.on('error', () => undefined));
  pool.on('error', (error) => log.warn({ reason: error.message }, 'an idle database connection was lost'));
  return pool;
}

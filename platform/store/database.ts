import { Pool, types } from 'pg';

import type { Logger } from '../log';

/** The pool of PostgreSQL connections. */

export type Database = Pool;

// int8 counts and sequence numbers stay below 2^53.
types.setTypeParser(types.builtins.INT8, (text) => Number(text));

/** How long a caller waits for a free connection of the pool or a new connection. */
const CONNECT_TIMEOUT_MS = 12_000;
/** The server cancels longer statements. Slow chores set their own timeout. */
const STATEMENT_TIMEOUT_MS = 12_000;
/** For a server that does not answer at all. Longer, so that the error message of a live server comes first. */
const QUERY_TIMEOUT_MS = 14_000;
const KEEPALIVE_DELAY_MS = 5_000;

export interface DatabaseOptions {
  connectMs: number;
  statementMs: number;
  queryMs: number;
  /** The server lists the sessions of the pool under this name. */
  sessionName: string;
}

/** Every query ends in bounded time, even if the server or the network hangs: it is rejected and its connection closed. */
export function openDatabase(
  url: string,
  maxConnections: number,
  log: Logger,
  {
    connectMs = CONNECT_TIMEOUT_MS,
    statementMs = STATEMENT_TIMEOUT_MS,
    queryMs = QUERY_TIMEOUT_MS,
    sessionName = 'funcx',
  }: Partial<DatabaseOptions> = {},
): Database {
  const pool = new Pool({
    connectionString: url,
    max: maxConnections,
    application_name: sessionName,
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEPALIVE_DELAY_MS,
    connectionTimeoutMillis: connectMs,
    statement_timeout: statementMs,
    query_timeout: queryMs,
  });
  // The pool listens for errors only while a connection is idle. A connection that is lost between two statements of a
  // transaction fails the next statement; without a listener, it would also end the process.
  pool.on('connect', (client) => void client.on('error', () => undefined));
  pool.on('error', (error) => log.warn({ reason: error.message }, 'an idle database connection was lost'));
  return pool;
}

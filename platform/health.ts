import { Client } from 'pg';

import type { Broker } from '../broker';
import type { Database } from './store/database';
import type { Temporal } from './temporal';

/** Readiness: whether each engine answers within a deadline. */

export interface EngineState {
  ok: boolean;
  reason?: string;
  /** The message broker lacks memory or disk and accepts no messages. The process is still ready: it can accept and store. */
  blocked?: true;
}

const ENGINE_DEADLINE_MS = 2_000;
/** The clients' own timeout, longer so that our message is reported instead of theirs. */
const CLIENT_DEADLINE_MS = ENGINE_DEADLINE_MS + 500;

export function createReadiness(parts: {
  db: Database;
  broker: Broker;
  temporal: Temporal;
  /** State of this process's Temporal worker, which may stop before the process does. */
  worker: () => string;
  isStopping?: () => boolean;
}): () => Promise<Record<string, EngineState>> {
  let probe: Promise<unknown> | undefined;
  /** Runs one probe of the pool at a time: if its connections hang, each probe occupies one until its timeout. */
  const askPool = (): Promise<unknown> =>
    (probe ??= parts.db.query('select 1').finally(() => {
      probe = undefined;
    }));

  return async () => {
    const [postgres, rabbitmq, temporal] = await Promise.all([
      within('postgres', Promise.all([askNewConnection(parts.db), askPool()])),
      within(
        'rabbitmq',
        parts.broker.withChannel(async () => undefined),
      ),
      within('temporal', parts.temporal.check(CLIENT_DEADLINE_MS)),
    ]);
    const state = parts.worker();
    const worker = state === 'RUNNING' ? { ok: true } : { ok: false, reason: `the Temporal worker is ${state}` };
    const stopping: Record<string, EngineState> = parts.isStopping?.()
      ? { process: { ok: false, reason: 'the process stops' } }
      : {};
    return {
      postgres,
      rabbitmq: parts.broker.isBlocked ? { ...rabbitmq, blocked: true } : rabbitmq,
      temporal,
      worker,
      ...stopping,
    };
  };
}

/** Opens a new connection: those of the pool may still work when the server accepts no new ones. */
async function askNewConnection(db: Database): Promise<void> {
  const client = new Client({ ...db.options, connectionTimeoutMillis: CLIENT_DEADLINE_MS, query_timeout: CLIENT_DEADLINE_MS });
  client.on('error', () => undefined); // the call that failed rejects as well
  try {
    await client.connect();
    await client.query('select 1');
  } finally {
    void client.end().catch(() => undefined);
  }
}

async function within(name: string, answer: Promise<unknown>): Promise<EngineState> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${name} did not answer within ${ENGINE_DEADLINE_MS} ms`)), ENGINE_DEADLINE_MS);
  });
  try {
    await Promise.race([answer, late]);
    return { ok: true };
  } catch (error) {
    answer.catch(() => undefined); // the deadline was reported already
    return { ok: false, reason: error instanceof Error ? error.message : String(error) };
  } finally {
    clearTimeout(timer);
  }
}

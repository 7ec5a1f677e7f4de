import type { Broker } from '../broker';
import type { Database } from './store/database';
import type { Temporal } from './temporal';

/** Whether each engine answers within a deadline; the same question in every process of the service. */

export interface EngineState {
  ok: boolean;
  reason?: string;
}

const ENGINE_DEADLINE_MS = 2_000;

export function createReadiness(parts: {
  db: Database;
  broker: Broker;
  temporal: Temporal;
  /** State of the own Temporal worker: it takes SIGTERM by itself and may have stopped while the process lives. */
  worker: () => string;
}): () => Promise<Record<string, EngineState>> {
  return async () => {
    const [postgres, rabbitmq, temporal] = await Promise.all([
      within('postgres', parts.db.query('select 1')),
      within(
        'rabbitmq',
        parts.broker.withChannel(async (model) => {
          const channel = await model.createChannel();
          await channel.close();
        }),
      ),
      within('temporal', parts.temporal.check(ENGINE_DEADLINE_MS)),
    ]);
    const state = parts.worker();
    const worker = state === 'RUNNING' ? { ok: true } : { ok: false, reason: `the Temporal worker is ${state}` };
    return { postgres, rabbitmq, temporal, worker };
  };
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
    answer.catch(() => undefined); // too late to matter
    return { ok: false, reason: error instanceof Error ? error.message : String(error) };
  } finally {
    clearTimeout(timer);
  }
}

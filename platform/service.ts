import { Runtime } from '@temporalio/worker';

import { Broker, type Publisher } from '../broker';
import { BROKER_HEARTBEAT_S, declareService } from './broker-topology';
import type { Config } from './config';
import type { Logger } from './log';
import { brokerBlocked } from './metrics';
import { openDatabase, type Database } from './store/database';
import { sessionNameOf } from './store/processes';
import { migrate, UnsupportedDatabaseError } from './store/migrations';
import { connectTemporal, type Temporal } from './temporal';

/** The connections of a process of the service. */
export interface Service {
  db: Database;
  broker: Broker;
  publisher: Publisher;
  temporal: Temporal;
  close(): Promise<void>;
}

export interface ServiceOptions {
  eager: boolean;
  /** Unique for each start of a process. Other processes continue what it had begun when it is killed. */
  processId: string;
}

const RETRY_MS = 1_000;
const START_DEADLINE_MS = 120_000;
/** After a longer silence of RabbitMQ, a task whose confirm is missing may be published twice. */
const MAX_SILENCE_S = 40;

/** Connects to all engines, waits for engines that are still starting, and migrates the store. */
export async function connectService(name: string, config: Config, log: Logger, options: ServiceOptions): Promise<Service> {
  const db = openDatabase(config.DATABASE_URL, config.DATABASE_POOL, log, { sessionName: sessionNameOf(options.processId) });
  await retryUntilConnected('postgres', log, () => migrate(db, Date.now()));
  // By default, the runtime stops the workers at a signal, but a replica must serve until its successor does.
  Runtime.install({ shutdownSignals: [] });
  const temporal = await retryUntilConnected('temporal', log, () => connectTemporal(config, log, options));
  const broker = new Broker({
    name,
    log,
    address: () => Promise.resolve({ url: config.AMQP_URL }),
    heartbeatS: BROKER_HEARTBEAT_S,
    maxSilenceS: MAX_SILENCE_S,
    onBlocked: (isBlocked) => brokerBlocked.set(isBlocked ? 1 : 0),
  });
  broker.onSetup(declareService);
  const publisher = await broker.publisher();
  return {
    db,
    broker,
    publisher,
    temporal,
    async close() {
      await broker.close();
      await temporal.close();
      await db.end();
    },
  };
}

async function retryUntilConnected<T>(engine: string, log: Logger, connect: () => Promise<T>): Promise<T> {
  const deadline = Date.now() + START_DEADLINE_MS;
  for (;;) {
    try {
      return await connect();
    } catch (error) {
      if (error instanceof UnsupportedDatabaseError || Date.now() > deadline) throw error;
      log.warn(
        { engine, reason: error instanceof Error ? error.message : String(error) },
        'an engine does not answer yet; trying again',
      );
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

import type { Publisher } from '../broker';
import type { Config } from '../platform/config';
import type { Logger } from '../platform/log';
import type { Database } from '../platform/store/database';
import type { Temporal } from '../platform/temporal';

/** What every activity of the service works with. */
export interface ActivityDeps {
  config: Config;
  log: Logger;
  db: Database;
  publisher: Publisher;
  temporal: Temporal;
  /** Called with the endpoint queues whose windows have more room. Only the process that runs pumps needs to know. */
  onPlacesFreed?: (endpointQueueId: string) => void;
}

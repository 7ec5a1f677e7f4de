import type { FreshSubmissions } from '../accepting/fresh-submissions';
import type { Publisher } from '../broker';
import type { Config } from '../platform/config';
import type { Logger } from '../platform/log';
import type { IsQueueMissing } from '../platform/missing-queues';
import type { Database } from '../platform/store/database';
import type { Temporal } from '../platform/temporal';

/** Dependencies of every activity of the service. */
export interface ActivityDeps {
  config: Config;
  log: Logger;
  db: Database;
  publisher: Publisher;
  isQueueMissing: IsQueueMissing;
  temporal: Temporal;
  /** Submissions that this process accepted; absent in a process that accepts none. */
  fresh?: FreshSubmissions;
  /** Called with an endpoint queue when places in its window become free. Set only in a process that runs pumps. */
  onPlacesFreed?: (endpointQueueId: string) => void;
}

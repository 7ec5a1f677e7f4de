import type { Entered } from '../flows/machine';
import type { Json, JsonObject } from '../flows/values';

/** What a state was entered with, until it ends. */
export interface Pending {
  kind: Entered['kind'] | 'hello' | 'retry';
  startedMs: number;
  /** Of an action, as it is sent. */
  body?: Json;
  provider?: string;
  url?: string;
  /** Of an action over HTTP: what its provider said last. */
  status?: JsonObject;
  actionId?: string;
  prefix?: string;
  count?: number;
  tolerated?: number;
  /** Tries that each retrier allowed. */
  retries?: Record<string, number>;
}

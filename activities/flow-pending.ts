import type { Entered } from '../flows/machine';
import type { Json, JsonObject } from '../flows/values';

/** What is known about the state that a line is in, until the state ends. */
export interface Pending {
  kind: Entered['kind'] | 'hello' | 'retry';
  startedMs: number;
  body?: Json;
  provider?: string;
  url?: string;
  /** The latest status that the provider of an action over HTTP returned. */
  status?: JsonObject;
  actionId?: string;
  prefix?: string;
  count?: number;
  tolerated?: number;
  /** Number of retries so far, by retrier. */
  retries?: Record<string, number>;
}

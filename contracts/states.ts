/**
 * Task states, and their names for each client.
 *
 * | task state | meaning | next |
 * |---|---|---|
 * | `waiting` | accepted; not dispatched yet, or the last attempt was lost | dispatched, cancelled, expired; succeeded, failed (late result of a lost attempt) |
 * | `delayed` | an attempt failed; the next attempt is due later | waiting, cancelled, expired; succeeded, failed (second result of an attempt that ran twice) |
 * | `dispatched` | on the broker or at the agent | running, waiting (lost), delayed, any end |
 * | `running` | the agent reports that a worker runs the task | waiting (lost), delayed, any end |
 * | `succeeded` `failed` `cancelled` `expired` | the task has its answer; final | none |
 */

export const TASK_STATES = [
  'waiting',
  'delayed',
  'dispatched',
  'running',
  'succeeded',
  'failed',
  'cancelled',
  'expired',
] as const;
export type TaskState = (typeof TASK_STATES)[number];

export const END_STATES = ['succeeded', 'failed', 'cancelled', 'expired'] as const;
export type EndState = (typeof END_STATES)[number];

export const SUBMISSION_STATES = ['waiting', 'running', 'done', 'cancelled', 'expired'] as const;
export type SubmissionState = (typeof SUBMISSION_STATES)[number];

export interface StateWords {
  /** The `status` for Globus Compute 4 clients, which treat only `success` and `failed` as final. */
  globus: string;
  /** The `status` for funcX 1.0 clients, which treat only `success` and `failed` as final. */
  funcx1: string;
  /** The words in the Temporal UI. */
  shown: string;
}

export const TASK_STATE_WORDS: Readonly<Record<TaskState, StateWords>> = {
  waiting: { globus: 'waiting-for-ep', funcx1: 'waiting-for-ep', shown: 'waiting' },
  delayed: { globus: 'waiting-for-ep', funcx1: 'waiting-for-ep', shown: 'waiting to retry' },
  dispatched: { globus: 'waiting-for-nodes', funcx1: 'waiting-for-nodes', shown: 'sent to the agent' },
  running: { globus: 'running', funcx1: 'running', shown: 'running' },
  succeeded: { globus: 'success', funcx1: 'success', shown: 'succeeded' },
  failed: { globus: 'failed', funcx1: 'failed', shown: 'failed' },
  cancelled: { globus: 'failed', funcx1: 'failed', shown: 'cancelled' },
  expired: { globus: 'failed', funcx1: 'failed', shown: 'expired' },
};

/** The allowed transitions. A test checks that the SQL of the store obeys them. */
export const TASK_TRANSITIONS: Readonly<Record<TaskState, readonly TaskState[]>> = {
  waiting: ['dispatched', 'succeeded', 'failed', 'cancelled', 'expired'],
  delayed: ['waiting', 'succeeded', 'failed', 'cancelled', 'expired'],
  dispatched: ['running', 'waiting', 'delayed', 'succeeded', 'failed', 'cancelled', 'expired'],
  running: ['waiting', 'delayed', 'succeeded', 'failed', 'cancelled', 'expired'],
  succeeded: [],
  failed: [],
  cancelled: [],
  expired: [],
};

export function isEndState(state: TaskState): state is EndState {
  return (END_STATES as readonly string[]).includes(state);
}

export function assertNever(value: never): never {
  throw new Error(`unexpected value: ${String(value)}`);
}

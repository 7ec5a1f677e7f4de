/**
 * The one table of states, in our words and in those of every client.
 *
 * | task state | meaning | next |
 * |---|---|---|
 * | `waiting` | accepted; its endpoint is offline or its window full | dispatched, cancelled, expired; succeeded, failed (of an attempt that was given up) |
 * | `delayed` | an attempt failed; the next one is due later | waiting, cancelled, expired; succeeded, failed (of an attempt that ran twice) |
 * | `dispatched` | on the broker or in the agent's hands | running, waiting (lost), delayed, any end |
 * | `running` | the agent says that a worker runs it | waiting (lost), delayed, any end |
 * | `succeeded` `failed` `cancelled` `expired` | answered; never changes again | none |
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

/** The states in which a task has its answer. */
export const END_STATES = ['succeeded', 'failed', 'cancelled', 'expired'] as const;
export type EndState = (typeof END_STATES)[number];

export const SUBMISSION_STATES = ['waiting', 'running', 'done', 'cancelled', 'expired'] as const;
export type SubmissionState = (typeof SUBMISSION_STATES)[number];

export interface StateWords {
  /** The `status` of a Globus Compute 4 task document; only success and failed mean finished. */
  globus: string;
  /** The `status` of a funcX 1.0 task document; likewise. */
  funcx1: string;
  /** What the Temporal UI shows in the current details. */
  shown: string;
}

export const TASK_STATE_WORDS: Readonly<Record<TaskState, StateWords>> = {
  waiting: { globus: 'waiting-for-ep', funcx1: 'waiting-for-ep', shown: 'waiting for the endpoint' },
  delayed: { globus: 'waiting-for-ep', funcx1: 'waiting-for-ep', shown: 'waiting to retry' },
  dispatched: { globus: 'waiting-for-nodes', funcx1: 'waiting-for-nodes', shown: 'dispatched' },
  running: { globus: 'running', funcx1: 'running', shown: 'running' },
  succeeded: { globus: 'success', funcx1: 'success', shown: 'succeeded' },
  failed: { globus: 'failed', funcx1: 'failed', shown: 'failed' },
  cancelled: { globus: 'failed', funcx1: 'failed', shown: 'cancelled' },
  expired: { globus: 'failed', funcx1: 'failed', shown: 'expired' },
};

/** Which state may follow which. The store's statements must obey it; a test walks it. */
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

/** Makes an exhaustive switch over a union a compile-time promise. */
export function assertNever(value: never): never {
  throw new Error(`unexpected value: ${String(value)}`);
}

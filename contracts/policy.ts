import { z } from 'zod';

import { isNamed, type RaisedException } from './exceptions';

/** The policy of a submission: retries, walltime and deadline. Durations on the wire are in seconds. */

export const DEFAULT_DEADLINE_S = 14 * 24 * 3600;
export const MAX_DEADLINE_S = 28 * 24 * 3600;

export const retriesSchema = z.strictObject({
  /** Total number of attempts, including the first. */
  attempts: z.int().min(1).max(100),
  /** Delay before the second attempt; doubles for each further attempt, up to an hour. Default: 1. */
  backoff_s: z.number().min(0).max(3600).default(1),
  /** Exceptions to retry: the class or one of its bases, by dotted name or the last part of that name. Default: all. */
  on: z.array(z.string().min(1).max(200)).max(50).optional(),
  /** Exit codes of shell functions to retry. Default: all except 0. */
  exit_codes: z.array(z.int().min(1).max(255)).max(255).optional(),
});
export type Retries = z.infer<typeof retriesSchema>;

export const policySchema = z.strictObject({
  retries: retriesSchema.optional(),
  /** Maximum run time of one attempt; our agent then stops the worker. Default: unlimited. */
  walltime_s: z.number().positive().max(MAX_DEADLINE_S).optional(),
  /** Maximum time from accept to the last answer. Default: two weeks. */
  deadline_s: z.number().positive().max(MAX_DEADLINE_S).optional(),
});
export type Policy = z.infer<typeof policySchema>;

const MAX_BACKOFF_MS = 3_600_000;

/** The part of a failed attempt that a retry policy matches. */
export interface AttemptFailure {
  code: string;
  /** Undefined if the agent does not say which exception the function raised. */
  exception?: RaisedException;
  exitCode?: number;
}

/** Milliseconds until the next attempt, or undefined if this failure is the answer. */
export function retryDelayMs(policy: Policy, attempt: number, failure: AttemptFailure): number | undefined {
  const retries = policy.retries;
  if (!retries || attempt >= retries.attempts || failure.code === 'Cancelled') return undefined;
  const { exception, code } = failure;
  if (retries.on && !retries.on.some((wanted) => wanted === code || (exception && isNamed(exception, wanted)))) return undefined;
  if (retries.exit_codes && failure.exitCode !== undefined && !retries.exit_codes.includes(failure.exitCode)) return undefined;
  return Math.min(retries.backoff_s * 1000 * 2 ** (attempt - 1), MAX_BACKOFF_MS);
}

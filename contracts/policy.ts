import { z } from 'zod';

import { isNamed, type RaisedException } from './exceptions';

/** What a submitter may ask for, per submission: retries, walltime, deadline. All durations are in seconds on the wire. */

export const DEFAULT_DEADLINE_S = 14 * 24 * 3600;
export const MAX_DEADLINE_S = 28 * 24 * 3600;

export const retriesSchema = z.strictObject({
  /** Tries in all, the first included. */
  attempts: z.int().min(1).max(100),
  /** Pause before the second try; doubles with each further one, up to an hour. Default 1. */
  backoff_s: z.number().min(0).max(3600).default(1),
  /** Exceptions that are retried: the class or one of its bases, by its dotted name or the last part of it. Default: all. */
  on: z.array(z.string().min(1).max(200)).max(50).optional(),
  /** Exit codes of shell functions that are retried. Default: all but 0. */
  exit_codes: z.array(z.int().min(1).max(255)).max(255).optional(),
});
export type Retries = z.infer<typeof retriesSchema>;

export const policySchema = z.strictObject({
  retries: retriesSchema.optional(),
  /** Run time of one attempt. Our agent stops the worker. Default: none. */
  walltime_s: z.number().positive().max(MAX_DEADLINE_S).optional(),
  /** From accept to the last answer. Default two weeks. */
  deadline_s: z.number().positive().max(MAX_DEADLINE_S).optional(),
});
export type Policy = z.infer<typeof policySchema>;

const MAX_BACKOFF_MS = 3_600_000;

/** A failed attempt, reduced to what a retry policy can ask for. */
export interface AttemptFailure {
  code: string;
  /** Undefined when the agent does not say which exception the function raised. */
  exception?: RaisedException;
  exitCode?: number;
}

/** Milliseconds to wait before the next attempt, or undefined when this failure is the answer. */
export function retryDelayMs(policy: Policy, attempt: number, failure: AttemptFailure): number | undefined {
  const retries = policy.retries;
  if (!retries || attempt >= retries.attempts || failure.code === 'Cancelled') return undefined;
  const { exception, code } = failure;
  if (retries.on && !retries.on.some((wanted) => wanted === code || (exception && isNamed(exception, wanted)))) return undefined;
  if (retries.exit_codes && failure.exitCode !== undefined && !retries.exit_codes.includes(failure.exitCode)) return undefined;
  return Math.min(retries.backoff_s * 1000 * 2 ** (attempt - 1), MAX_BACKOFF_MS);
}

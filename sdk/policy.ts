import { policySchema, type Policy } from '../contracts/policy';
import { TerminalError } from '../contracts/errors';

/** Retries, walltime and deadline of a call. Durations are in seconds. */
export interface CallPolicy {
  /** Maximum number of attempts if the function fails, as a number or with backoff and filters. Default: 1. */
  retries?:
    | number
    | {
        attempts: number;
        /** Delay before the second attempt. Doubles with each further attempt. Default: 1. */
        backoffS?: number;
        /** Names of exceptions to retry. Default: all. */
        on?: string[];
        /** Exit codes of shell functions to retry. Default: all but 0. */
        exitCodes?: number[];
      };
  /** Time limit of one attempt. Default: none. */
  walltimeS?: number;
  /** Time limit from acceptance to the answer. Default: two weeks. */
  deadlineS?: number;
}

/** Returns the wire form of a policy, or undefined if it is empty. Throws INVALID_REQUEST that names the invalid field. */
export function wirePolicy({ retries, walltimeS, deadlineS }: CallPolicy): Policy | undefined {
  const asked = typeof retries === 'number' ? { attempts: retries } : retries;
  const wanted = {
    ...(asked && {
      retries: {
        attempts: asked.attempts,
        ...('backoffS' in asked && asked.backoffS !== undefined ? { backoff_s: asked.backoffS } : {}),
        ...('on' in asked && asked.on !== undefined ? { on: asked.on } : {}),
        ...('exitCodes' in asked && asked.exitCodes !== undefined ? { exit_codes: asked.exitCodes } : {}),
      },
    }),
    ...(walltimeS === undefined ? {} : { walltime_s: walltimeS }),
    ...(deadlineS === undefined ? {} : { deadline_s: deadlineS }),
  };
  if (Object.keys(wanted).length === 0) return undefined;
  const parsed = policySchema.safeParse(wanted);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new TerminalError(
    'INVALID_REQUEST',
    `The policy is not well formed: ${issue?.path.join('.') ?? ''} ${issue?.message ?? ''}.`,
  );
}

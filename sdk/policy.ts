import { policySchema, type Policy } from '../contracts/policy';
import { TerminalError } from '../contracts/errors';

/** How often, how long and until when a call is tried. Durations are in seconds. */
export interface CallPolicy {
  /** Tries in all when the function fails: a number, or with backoff and a choice of failures. Default: 1. */
  retries?:
    | number
    | {
        attempts: number;
        /** Pause before the second try; doubles with each further one. Default: 1. */
        backoffS?: number;
        /** Names of exceptions that are retried. Default: all. */
        on?: string[];
        /** Exit codes of shell functions that are retried. Default: all but 0. */
        exitCodes?: number[];
      };
  /** Run time of one try. Default: none. */
  walltimeS?: number;
  /** From acceptance to the last answer. Default: two weeks. */
  deadlineS?: number;
}

/** As it goes over the wire; throws INVALID_REQUEST that names what is wrong. Undefined where nothing is asked for. */
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

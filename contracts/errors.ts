/**
 * The catalogue of public errors and the three families that decide what is retried.
 *
 * `TaskError`: the user's function failed; it is an answer. `RetryableError`: ours or the network's; retried without
 * spending the user's attempts. `TerminalError`: the caller must change something; never retried.
 */

export const ERROR_CATALOGUE = {
  UNAUTHENTICATED: { status: 401, meaning: 'No valid access token came with the request. Ask for a new one and repeat.' },
  FORBIDDEN: { status: 403, meaning: 'The identity may not do this. Ask the owner for access.' },
  FUNCTION_NOT_FOUND: { status: 404, meaning: 'No function with this id is visible to you. Register it first.' },
  ENDPOINT_NOT_FOUND: { status: 404, meaning: 'No endpoint with this id is visible to you.' },
  TASK_NOT_FOUND: { status: 404, meaning: 'No task with this id belongs to you.' },
  GROUP_NOT_FOUND: { status: 404, meaning: 'No task group with this id belongs to you.' },
  SUBMISSION_NOT_FOUND: { status: 404, meaning: 'No submission with this id belongs to you.' },
  NOT_FOUND: { status: 404, meaning: 'The service has no such route or object.' },
  CONFLICT: { status: 409, meaning: 'The object exists with other content, or is in use.' },
  EXPIRED: { status: 410, meaning: 'The retention time of this task is over; its result was removed.' },
  PAYLOAD_TOO_LARGE: { status: 413, meaning: 'A body is over the limit. Send less, or pass data by reference.' },
  INVALID_REQUEST: { status: 422, meaning: 'The request is not well formed; the message names the field.' },
  ENDPOINT_LOCKED: { status: 423, meaning: 'The endpoint was stopped remotely and may register again in a moment.' },
  LIMIT_EXCEEDED: { status: 429, meaning: 'Too many requests or tasks; wait for Retry-After seconds.' },
  INTERNAL: { status: 500, meaning: 'The service failed; the request id finds the reason in its log.' },
  UNAVAILABLE: { status: 503, meaning: 'An engine of the service does not answer; repeat after Retry-After seconds.' },
} as const satisfies Record<string, { status: number; meaning: string }>;

export type ErrorCode = keyof typeof ERROR_CATALOGUE;

/** Codes of answers that the service or our agent makes in place of a function's own result. */
export const TASK_ERROR_CODES = {
  RemoteExecutionError: 'The function raised an exception; the text is its traceback.',
  MaxResultSizeExceeded: 'The result is larger than the limit.',
  WorkerLost: 'The worker process died while it ran the task.',
  AgentLost: 'The agent that held the task went away too many times.',
  WalltimeExceeded: 'The task ran longer than its walltime and was stopped.',
  Cancelled: 'The task was cancelled.',
  Expired: 'The deadline of the submission passed before the task had an answer.',
  EndpointDeleted: 'The endpoint was deleted while the task was open.',
  EndpointFailed: 'The endpoint could not start what the task needs.',
  ReferenceExpired: 'A value that the arguments refer to was removed after its retention time, before the task was sent.',
  InvalidTask: 'The agent could not understand the task, or no message can hold it.',
} as const;

/** What an error is about, for wires whose errors say so in fields. `permission`: function, then endpoint. */
export interface ErrorSubject {
  kind: 'function' | 'endpoint' | 'permission' | 'task' | 'task group' | 'container';
  ids: readonly string[];
}

export interface ErrorOptions {
  cause?: unknown;
  retryAfterS?: number;
  subject?: ErrorSubject;
}

export class FuncXError extends Error {
  constructor(
    readonly code: ErrorCode,
    message: string,
    options: ErrorOptions = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.retryAfterS = options.retryAfterS;
    this.subject = options.subject;
  }

  readonly subject: ErrorSubject | undefined;

  /** Seconds after which the caller should try again; undefined where trying again is pointless. */
  readonly retryAfterS: number | undefined;

  get httpStatus(): number {
    return ERROR_CATALOGUE[this.code].status;
  }
}

/** Thrown when the caller must change something: bad input, no permission, over a limit. */
export class TerminalError extends FuncXError {}

/** Thrown when an engine or the network failed; the same call may succeed later. */
export class RetryableError extends FuncXError {
  constructor(message: string, options: ErrorOptions = {}) {
    super('UNAVAILABLE', message, { retryAfterS: 1, ...options });
  }
}

/** A task's failed answer, as the submitter sees it. */
export class TaskError extends Error {
  constructor(
    /** One of {@link TASK_ERROR_CODES}, or what a foreign agent said. */
    readonly code: string,
    /** The remote traceback or a sentence. */
    message: string,
    readonly taskId: string,
  ) {
    super(message);
    this.name = 'TaskError';
  }
}

/** Turns whatever was thrown into an `Error`. */
export function ensureError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}

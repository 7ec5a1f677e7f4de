/**
 * The catalogue of public errors, and three error classes that decide what is retried.
 *
 * `TaskError`: the user's function failed; the failure is an answer. `RetryableError`: the service or the network failed;
 * a retry does not count as one of the user's attempts. `TerminalError`: the caller must change something; never retried.
 */

export const ERROR_CATALOGUE = {
  INVALID_SCOPE: { status: 400, meaning: 'The request for tokens names too many scopes. Ask for fewer at a time.' },
  UNAUTHENTICATED: { status: 401, meaning: 'The request has no valid access token. Get a new token and repeat the request.' },
  ENROLMENT_UNKNOWN: {
    status: 401,
    meaning: 'This service does not know the enrolment code, or a newer one replaced it. Ask the owner for a new code.',
  },
  ENROLMENT_EXPIRED: { status: 401, meaning: 'The enrolment code has expired. Ask the owner of the endpoint for a new code.' },
  FORBIDDEN: { status: 403, meaning: 'This identity does not have permission. Ask the owner of the object for access.' },
  FUNCTION_NOT_FOUND: { status: 404, meaning: 'You cannot see a function with this ID. Check the ID, or register the function.' },
  ENDPOINT_NOT_FOUND: {
    status: 404,
    meaning: 'You cannot see an endpoint with this ID. Check the ID, or ask its owner to share it.',
  },
  TASK_NOT_FOUND: { status: 404, meaning: 'You have no task with this ID. Check the ID and the identity that you use.' },
  GROUP_NOT_FOUND: { status: 404, meaning: 'You have no task group with this ID. Check the ID and the identity that you use.' },
  SUBMISSION_NOT_FOUND: {
    status: 404,
    meaning: 'You have no submission with this ID. Check the ID and the identity that you use.',
  },
  NOT_FOUND: { status: 404, meaning: 'The route or object does not exist. Check the address against /openapi.json.' },
  REQUEST_TIMEOUT: {
    status: 408,
    meaning: 'The rest of the body of the request did not arrive in time. Send the request again.',
  },
  CONFLICT: { status: 409, meaning: 'The object already exists with different content, or is in use.' },
  ENROLMENT_USED: {
    status: 409,
    meaning: 'Another agent enrolled with this code; a code works once. Ask the owner of the endpoint for a new code.',
  },
  EXPIRED: { status: 410, meaning: 'The retention time of this task has passed and its result was deleted.' },
  PAYLOAD_TOO_LARGE: {
    status: 413,
    meaning: 'The request or one of its bodies exceeds a limit. Send less, or pass data by reference.',
  },
  UNSUPPORTED_MEDIA_TYPE: {
    status: 415,
    meaning: 'The encoding of the request is not supported. The message names the supported encodings.',
  },
  INVALID_REQUEST: { status: 422, meaning: 'The request is not valid. The message names the field to correct.' },
  ENDPOINT_LOCKED: {
    status: 423,
    meaning:
      'The endpoint was stopped remotely, or cut off because of what it sent. Register it again after Retry-After seconds.',
  },
  LIMIT_EXCEEDED: { status: 429, meaning: 'A limit on requests or tasks is reached. Wait for Retry-After seconds.' },
  INTERNAL: { status: 500, meaning: 'The service failed. Give the request ID to the operator; the log holds the reason.' },
  UNAVAILABLE: { status: 503, meaning: 'Part of the service is not available. Repeat the request after Retry-After seconds.' },
} as const satisfies Record<string, { status: number; meaning: string }>;

export type ErrorCode = keyof typeof ERROR_CATALOGUE;

/** Codes of failed answers. All except the first come from the service or the agent, not from the function. */
export const TASK_ERROR_CODES = {
  RemoteExecutionError: 'The function raised an exception; the text is its traceback.',
  MaxResultSizeExceeded: 'The result is larger than the limit.',
  WorkerLost: 'The worker process died while it ran the task.',
  AgentLost: 'The agent was lost while it held the task, more often than the service retries.',
  WalltimeExceeded: 'The task ran longer than its walltime and was stopped.',
  Cancelled: 'The task was cancelled.',
  Expired: 'The deadline of the submission passed before the task had an answer.',
  EndpointDeleted: 'The endpoint was deleted while the task was open.',
  EndpointFailed: 'The endpoint could not start the workers that the task needs.',
  ReferenceExpired: 'An argument refers to a result that was deleted after its retention time, before the task was dispatched.',
  InvalidTask: 'The agent could not read the task, or the task is too large for a message.',
} as const;

/** The objects that an error is about; funcX 1.0 clients read them as fields. For `permission`: function ID, endpoint ID. */
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

  /** Seconds after which the caller should retry; undefined if a retry cannot help. */
  readonly retryAfterS: number | undefined;

  get httpStatus(): number {
    return ERROR_CATALOGUE[this.code].status;
  }
}

/** Thrown when the caller must change something: invalid input, no permission, or a limit. */
export class TerminalError extends FuncXError {}

/** Thrown when an engine or the network failed; the same call may succeed later. */
export class RetryableError extends FuncXError {
  constructor(message: string, options: ErrorOptions = {}) {
    super('UNAVAILABLE', message, { retryAfterS: 1, ...options });
  }
}

/** The failed answer of a task, as the submitter sees it. */
export class TaskError extends Error {
  constructor(
    /** One of {@link TASK_ERROR_CODES}, or a code from a foreign agent. */
    readonly code: string,
    /** The remote traceback, or a sentence from the service. */
    message: string,
    readonly taskId: string,
  ) {
    super(message);
    this.name = 'TaskError';
  }
}

/** Converts any thrown value to an `Error`. */
export function ensureError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}

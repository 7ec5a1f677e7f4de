import { FuncXError, RetryableError, type ErrorCode } from '../contracts/errors';

/** Thrown when the service refuses a request; `code` and `message` come from the service. */
export class ApiError extends FuncXError {
  constructor(
    code: ErrorCode,
    message: string,
    readonly status: number,
    /** Identifies the request in the service's log. */
    readonly requestId: string | undefined,
    options: { retryAfterS?: number } = {},
  ) {
    super(code, message, options);
  }

  /** True when the same request may succeed later. */
  get isTemporary(): boolean {
    return this.status >= 500 || this.status === 429 || this.status === 408;
  }
}

/** Thrown when the service does not answer, after any retries, or when its response cannot be understood. */
export class ConnectionError extends RetryableError {}

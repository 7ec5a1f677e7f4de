import { FuncXError, RetryableError, TaskError, type ErrorCode } from '../contracts/errors';

/** What a caller of this package may catch. Failed functions reject with {@link TaskError}, everything else with a FuncXError. */

export { FuncXError, TaskError };

/** Thrown when the service refused a request; `code` and `message` are its own. */
export class ApiError extends FuncXError {
  constructor(
    code: ErrorCode,
    message: string,
    /** The HTTP status of the answer. */
    readonly status: number,
    /** Finds the reason in the service's log. */
    readonly requestId: string | undefined,
    options: { retryAfterS?: number } = {},
  ) {
    super(code, message, options);
  }
}

/** Thrown when the service could not be reached within the time for retries. */
export class ConnectionError extends RetryableError {}

/** Thrown when a task was cancelled: by its future, over the API, from the command line or the Temporal UI. */
export class TaskCancelledError extends TaskError {
  constructor(taskId: string, message = 'The task was cancelled.') {
    super('Cancelled', message, taskId);
    this.name = 'TaskCancelledError';
  }
}

/** Thrown by futures that were open when their executor was closed without waiting. The tasks go on: reattach by the group. */
export class ExecutorClosedError extends Error {
  constructor(readonly taskGroupId: string) {
    super(`The executor was closed. Its tasks go on; read their results by task group ${taskGroupId}.`);
    this.name = 'ExecutorClosedError';
  }
}

/** The error of a failed answer. */
export function taskErrorOf(taskId: string, code: string | undefined, text: string): TaskError {
  return code === 'Cancelled'
    ? new TaskCancelledError(taskId, text)
    : new TaskError(code ?? 'RemoteExecutionError', text, taskId);
}

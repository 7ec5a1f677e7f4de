import { FuncXError, TaskError } from '../contracts/errors';

/** Errors that a caller may catch: a {@link TaskError} for a failed task, a {@link FuncXError} for most other failures. */

export { ApiError, ConnectionError } from '../client';
export { FuncXError, TaskError };

/** Thrown when a task was cancelled: by its future, the API, the command line or the Temporal UI. */
export class TaskCancelledError extends TaskError {
  constructor(taskId: string, message = 'The task was cancelled.') {
    super('Cancelled', message, taskId);
    this.name = 'TaskCancelledError';
  }
}

/** Rejects the futures that are open when their executor is closed with `wait: false`. Their tasks continue. */
export class ExecutorClosedError extends Error {
  constructor(readonly taskGroupId: string) {
    super(`The executor was closed. Its tasks continue: call reattach with task group ${taskGroupId} to read their results.`);
    this.name = 'ExecutorClosedError';
  }
}

/** Returns the error for the future of a failed task. */
export function taskErrorOf(taskId: string, code: string | undefined, text: string): TaskError {
  return code === 'Cancelled'
    ? new TaskCancelledError(taskId, text)
    : new TaskError(code ?? 'RemoteExecutionError', text, taskId);
}

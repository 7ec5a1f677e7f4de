import { FuncXError, TaskError } from '../contracts/errors';

/** Errors that a caller may catch. A failed function rejects with {@link TaskError}, all else with a {@link FuncXError}. */

export { ApiError, ConnectionError } from '../client';
export { FuncXError, TaskError };

/** Thrown when a task was cancelled: by its future, the API, the command line or the Temporal UI. */
export class TaskCancelledError extends TaskError {
  constructor(taskId: string, message = 'The task was cancelled.') {
    super('Cancelled', message, taskId);
    this.name = 'TaskCancelledError';
  }
}

/** The rejection of futures that were open when their executor was closed with `wait: false`. Their tasks continue. */
export class ExecutorClosedError extends Error {
  constructor(readonly taskGroupId: string) {
    super(`The executor was closed. Its tasks go on: call reattach with task group ${taskGroupId} to read their results.`);
    this.name = 'ExecutorClosedError';
  }
}

/** The error that a failed task's future rejects with. */
export function taskErrorOf(taskId: string, code: string | undefined, text: string): TaskError {
  return code === 'Cancelled'
    ? new TaskCancelledError(taskId, text)
    : new TaskError(code ?? 'RemoteExecutionError', text, taskId);
}

import type { GroupResult } from '../contracts/http/v1';

/** A source of a task group's results, over any transport. */
export interface ResultSource {
  /** Starts to read and continues, through all connection errors, until closed. */
  start(): void;
  close(): Promise<void>;
}

/** A task's answer as it is delivered. */
export interface DeliveredResult {
  taskId: string;
  /** The result buffer, if the function returned. */
  result?: string;
  /** The traceback or message, if the function did not return. */
  exception?: string;
  errorCode?: string;
}

/** Takes a result. Ignores a repeated one. The source need not keep a result after this call. */
export type OnResult = (result: DeliveredResult) => void;

/** A result as the service's list contains it. */
export function deliveredOf({ task_id, result, exception, error_code }: GroupResult): DeliveredResult {
  return {
    taskId: task_id,
    result,
    exception,
    errorCode: error_code,
  };
}

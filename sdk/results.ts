import type { GroupResult } from '../contracts/http/v1';

/** A source of a task group's results, over any transport. */
export interface ResultSource {
  /** Starts reading and continues until closed, despite connection errors. */
  start(): void;
  close(): Promise<void>;
}

export interface DeliveredResult {
  taskId: string;
  /** The result buffer, if the function returned. */
  result?: string;
  /** The traceback or message, if the task failed. */
  exception?: string;
  errorCode?: string;
}

/** Handles a result and ignores repeated results. The source need not keep a result after this call. */
export type OnResult = (result: DeliveredResult) => void;

export function deliveredOf({ task_id, result, exception, error_code }: GroupResult): DeliveredResult {
  return {
    taskId: task_id,
    result,
    exception,
    errorCode: error_code,
  };
}

import type { GroupResult } from '../contracts/http/v1';

/** What reads the results of a task group, by whatever way. */
export interface ResultSource {
  /** Begins to read, and goes on through every trouble until closed. */
  start(): void;
  close(): Promise<void>;
}

/** An answer of a task as it is delivered. */
export interface DeliveredResult {
  taskId: string;
  /** A result buffer, of a function that returned. */
  result?: string;
  /** The traceback or a sentence, of one that did not. */
  exception?: string;
  errorCode?: string;
}

/** Takes a result; what was handed over may be forgotten by its source. A repeated one does nothing. */
export type OnResult = (result: DeliveredResult) => void;

/** A result as the service lists it. */
export function deliveredOf({ task_id, result, exception, error_code }: GroupResult): DeliveredResult {
  return {
    taskId: task_id,
    ...(result === undefined ? {} : { result }),
    ...(exception === undefined ? {} : { exception }),
    ...(error_code === undefined ? {} : { errorCode: error_code }),
  };
}

import { decodeFrame, type ResultData } from '../contracts/frames';
import type { TaskDocument } from '../contracts/http/globus';
import { submissionIdOf } from '../contracts/ids';
import type { GroupResult, TaskStateDocument } from '../contracts/http/v1';
import { TASK_STATE_WORDS } from '../contracts/states';
import type { GroupResultRow, TaskRow } from '../platform/store/tasks';

/** Converts stored results to the documents that clients read. */

function readResult(frame: Buffer): ResultData {
  const decoded = decodeFrame(frame);
  if (decoded.message_type !== 'result') throw new Error('the stored frame is not a result frame');
  return decoded.data;
}

/** Exactly one of the two keys: if a failed task has the key `result`, even with null, the clients deserialize it. */
function outcomeOf(data: ResultData): { result: string } | { exception: string } {
  return data.error_details ? { exception: data.data } : { result: data.data };
}

const unixSeconds = (date: Date): string => (date.getTime() / 1000).toFixed(3);

function answerOf(row: TaskRow): Pick<TaskDocument, 'result' | 'exception' | 'completion_t' | 'details'> {
  if (!row.frame || !row.answeredAt) return {};
  const data = readResult(row.frame);
  return { ...outcomeOf(data), completion_t: unixSeconds(row.answeredAt), ...(data.details ? { details: data.details } : {}) };
}

export function taskDocument(row: TaskRow): TaskDocument {
  return { task_id: row.id, status: TASK_STATE_WORDS[row.state].globus, ...answerOf(row) };
}

export function taskStateDocument(row: TaskRow): TaskStateDocument {
  const code = row.frame ? readResult(row.frame).error_details?.code : undefined;
  return {
    ...taskDocument(row),
    state: row.state,
    attempt: row.attempt,
    function_id: row.functionId,
    endpoint_id: row.endpointId,
    task_group_id: row.taskGroupId,
    submission_id: submissionIdOf(row.id),
    ...(code === undefined ? {} : { error_code: code }),
  };
}

export function groupResult(row: GroupResultRow): GroupResult {
  const data = readResult(row.frame);
  return {
    seq: row.seq,
    task_id: row.id,
    status: data.error_details ? 'failed' : 'success',
    ...outcomeOf(data),
    ...(data.error_details ? { error_code: data.error_details.code } : {}),
    completion_t: unixSeconds(row.answeredAt),
    ...(data.details ? { details: withoutOutput(data.details) } : {}),
  };
}

/** What a function printed may have 64 KB; with many results it is asked for task by task. */
function withoutOutput({ output: _output, ...details }: Record<string, unknown>): Record<string, unknown> {
  return details;
}

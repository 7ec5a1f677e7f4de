import { exceptionLineOf } from '../contracts/exceptions';
import { decodeFrame, type ResultData } from '../contracts/frames';
import type { TaskDocument } from '../contracts/http/globus';
import { idTimeMs, submissionIdOf, taskIndexOf } from '../contracts/ids';
import type { GroupResult, TaskSummary, TaskStateDocument } from '../contracts/http/v1';
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
  const data = row.frame ? readResult(row.frame) : undefined;
  const code = data?.error_details?.code;
  return {
    ...taskDocument(row),
    state: row.state,
    attempt: row.attempt,
    function_id: row.functionId,
    endpoint_id: row.endpointId,
    task_group_id: row.taskGroupId,
    submission_id: submissionIdOf(row.id),
    ...taskFacts(row),
    ...(data ? executionOf(data) : {}),
    error_code: code,
  };
}

/** Agents report when a worker started and ended an attempt, in nanoseconds. */
function executionOf({ task_statuses: statuses, details }: ResultData): Pick<TaskStateDocument, 'host' | 'ran_ms'> {
  const at = (wanted: string): number | undefined => {
    const found = (statuses ?? []).find(
      (one) => typeof one === 'object' && one !== null && 'state' in one && one.state === wanted,
    );
    const { timestamp } = (found ?? {}) as { timestamp?: unknown };
    return typeof timestamp === 'number' ? timestamp / 1e6 : undefined;
  };
  const [from, to] = [at('execution-start'), at('execution-end')];
  const host = details?.hostname;
  return {
    ...(typeof host === 'string' ? { host } : {}),
    ...(from === undefined || to === undefined ? {} : { ran_ms: Math.max(0, to - from) }),
  };
}

/** The state of a task without its bodies, as administrators see tasks of others. */
export function withoutBodies({
  result: _result,
  exception: _exception,
  details: _details,
  ...rest
}: TaskStateDocument): TaskStateDocument {
  return { ...rest, last_error: null };
}

const isoOrNull = (date: Date | null): string | null => date?.toISOString() ?? null;

function taskFacts(
  row: TaskRow,
): Pick<
  TaskStateDocument,
  | 'function_name'
  | 'endpoint_name'
  | 'submitted_at'
  | 'dispatched_at'
  | 'started_at'
  | 'answered_at'
  | 'next_attempt_at'
  | 'last_error'
> {
  return {
    function_name: row.functionName,
    endpoint_name: row.endpointName,
    submitted_at: new Date(idTimeMs(row.id)).toISOString(),
    dispatched_at: isoOrNull(row.dispatchedAt),
    started_at: isoOrNull(row.runningAt),
    answered_at: isoOrNull(row.answeredAt),
    next_attempt_at: isoOrNull(row.dueAt),
    last_error: row.lastError,
  };
}

export function listedTask(row: TaskRow, isOwner: boolean): TaskSummary {
  const data = row.frame ? readResult(row.frame) : undefined;
  return {
    task_id: row.id,
    submission_id: submissionIdOf(row.id),
    index: taskIndexOf(row.id),
    state: row.state,
    attempt: row.attempt,
    function_id: row.functionId,
    endpoint_id: row.endpointId,
    ...taskFacts(row),
    ...(isOwner ? {} : { last_error: null }),
    ...(data?.error_details ? { error_code: data.error_details.code } : {}),
    ...(data?.error_details && isOwner ? { error: exceptionLineOf(data.data) } : {}),
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

/** The output that a function printed may have 64 KB. Lists of results omit it; clients read it task by task. */
function withoutOutput({ output: _output, ...details }: Record<string, unknown>): Record<string, unknown> {
  return details;
}

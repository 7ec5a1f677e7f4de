import { exceptionLineOf, raisedException } from '../contracts/exceptions';
import { encodeFrame, type ResultData } from '../contracts/frames';
import { tasksQueueName, commandQueueName } from '../contracts/names';
import { retryDelayMs } from '../contracts/policy';
import type { EndReason } from '../contracts/submission';
import { attemptName } from '../contracts/frames';
import { failPoint } from '../platform/fail-points';
import {
  readRetryFacts,
  removeUploads,
  sizeOfUpload,
  storeAnswers,
  type Answer,
  type Completed,
  type RetryFacts,
} from '../platform/store/answers';
import { listOpenSubmissions, listOpenTasks, listQueueIds, type OpenTask } from '../platform/store/open-tasks';
import { markAccepted, publishAnswers, type Delivery } from './deliver';
import type { ActivityDeps } from './deps';
import { inParts } from './in-parts';
import { missedNudges } from './missed-nudges';

/**
 * Completion: store the result (the first result of a task is its answer), deliver the answer (mark it after the confirm), nudge
 * the submission. The caller acknowledges the message last, so every step is repeated after a crash. When the broker redelivers a
 * result whose answer is not marked as delivered, the answer is delivered again from the stored bytes.
 */

export interface ReceivedResult {
  endpointQueueId: string;
  data: ResultData;
  /** The message body, kept byte for byte for the submitter. */
  body: Buffer;
  attempt: number | undefined;
  /** True when the agent uploaded the body over HTTP. */
  isStored: boolean;
  exitCode: number | undefined;
  /** Calls per second that the agent could run; undefined if the agent does not report it. */
  capacity: number | undefined;
}

/** Codes of failures that report a lost attempt, not a failure of the function. */
const LOSS_CODES: ReadonlySet<string> = new Set(['WorkerLost', 'AgentLost']);
const MAX_CONCURRENT_NUDGES = 32;

export interface Stage {
  completed: Omit<Completed, 'frame'>[];
  /** `row` is the place in `completed`. Empty once they are published: nothing keeps an answer that the broker has confirmed. */
  deliveries: (Delivery & { row: number })[];
}

export async function storeResults(deps: ActivityDeps, results: readonly ReceivedResult[]): Promise<Stage> {
  const failed = results.filter((result) => result.data.error_details || result.isStored);
  const facts =
    failed.length > 0
      ? await readRetryFacts(
          deps.db,
          failed.map((result) => result.data.task_id),
        )
      : new Map<string, RetryFacts>();
  const answers = await Promise.all(results.map((result) => toAnswer(deps, result, facts.get(result.data.task_id))));
  const stage = await store(deps, answers);
  // Remove the uploads only now: after a crash before the store, their bodies are needed again.
  const uploaded = results.flatMap(({ data, isStored, endpointQueueId }, index) =>
    isStored ? [{ taskId: data.task_id, attempt: answers[index]?.attempt ?? 1, endpointQueueId }] : [],
  );
  if (uploaded.length > 0) await removeUploads(deps.db, uploaded);
  return stage;
}

async function store(deps: ActivityDeps, answers: readonly Answer[]): Promise<Stage> {
  const completed = await storeAnswers(deps.db, answers);
  await failPoint('store');
  for (const queueId of new Set(answers.map(({ endpointQueueId }) => endpointQueueId))) {
    if (queueId !== undefined) deps.onPlacesFreed?.(queueId);
  }
  const deliveries: Stage['deliveries'] = [];
  completed.forEach((one, row) => {
    const answer = answers[row];
    if (!answer || one.ownerId === null || one.taskGroupId === null) return;
    // For results uploaded over HTTP, only the store has the complete message.
    const frame = one.verdict === 'stored' ? (one.frame ?? answer.frame) : one.frame;
    // A group without a queue reads its answers from the store.
    const { taskId, ownerId, taskGroupId } = one;
    const [hasQueue, hasBatchQueue] = [one.hasQueue ?? false, one.hasBatchQueue ?? false];
    if (frame && (hasQueue || hasBatchQueue))
      deliveries.push({ row, taskId, ownerId, taskGroupId, frame, hasQueue, hasBatchQueue });
  });
  return { completed: completed.map(({ frame: _frame, ...one }) => one), deliveries };
}

/**
 * Delivers the answers and nudges the submissions. Calls `onSettled` with rows of `completed` whose results may be acknowledged:
 * each answer settles by itself, so a queue that does not confirm delays no other answer.
 */
export async function deliverAndNudge(
  deps: ActivityDeps,
  { completed, deliveries }: Stage,
  onSettled: (rows: readonly number[]) => Promise<void> = async () => undefined,
): Promise<void> {
  const places = deliveries.map(({ row }) => row);
  const published = publishAnswers(deps, deliveries.splice(0));
  const outcomes = new Map(places.map((row, index) => [row, published[index]]));
  const nudged = new Set<string>();
  const rows = completed.map(async (one, row) => ({ ...one, row, outcome: await outcomes.get(row) }));
  await inParts(rows, async (part) => {
    await markAccepted(deps, part);
    await failPoint('deliver');
    const due = new Map<string, string>();
    for (const { nudge, verdict, delivered, workflowId, submissionId } of part) {
      // A duplicate that was not marked delivered may come from a crash before the nudge.
      const isDue = nudge || (verdict === 'duplicate' && !delivered);
      if (isDue && workflowId !== null && !nudged.has(workflowId)) due.set(workflowId, submissionId);
    }
    for (const workflowId of due.keys()) nudged.add(workflowId);
    await nudgeAll(deps, [...due]);
    await failPoint('nudge');
    await onSettled(part.map(({ row }) => row));
  });
}

/** Each workflow comes with one of its submissions. A failed nudge is left to the sweep: results must not be redelivered. */
async function nudgeAll(deps: ActivityDeps, workflows: readonly (readonly [string, string])[]): Promise<void> {
  for (let at = 0; at < workflows.length; at += MAX_CONCURRENT_NUDGES) {
    const batch = workflows.slice(at, at + MAX_CONCURRENT_NUDGES);
    await Promise.all(
      batch.map(async ([workflowId, id]) => {
        try {
          if (!(await deps.temporal.nudge(workflowId))) missedNudges.add(id);
        } catch (error) {
          missedNudges.add(id);
          deps.log.debug({ err: error, submissionId: id }, 'Temporal did not accept a nudge; the sweep repeats it');
        }
      }),
    );
  }
}

async function toAnswer(deps: ActivityDeps, result: ReceivedResult, facts: RetryFacts | undefined): Promise<Answer> {
  const { data } = result;
  const attempt = result.attempt ?? facts?.attempt ?? 1;
  const base = { taskId: data.task_id, endpointQueueId: result.endpointQueueId, attempt, capacity: result.capacity };
  if (!data.error_details) {
    if (!result.isStored) return { ...base, ...limited(deps, result) };
    const outcome = await outcomeOfUpload(deps, data, attempt, facts?.isPublished ?? false);
    if (outcome) return { ...base, ...outcome };
    const text = `The result of task ${data.task_id} was announced but never arrived. Submit the task again.`;
    return { ...base, ...lossOf(deps, facts, errorFrame(data.task_id, 'AgentLost', text)) };
  }
  const code = data.error_details.code;
  if (LOSS_CODES.has(code)) return { ...base, ...lossOf(deps, facts, result.body) };
  const failure = { code, exception: raisedException(data.details, data.data), exitCode: result.exitCode };
  // Lost attempts do not count against the user's attempts.
  const usersAttempt = Math.max(1, Math.min(attempt, facts?.attempt ?? attempt) - (facts?.losses ?? 0));
  const retryMs = retryDelayMs(facts?.policy ?? {}, usersAttempt, failure);
  return {
    ...base,
    state: code === 'Cancelled' ? 'cancelled' : 'failed',
    frame: result.body,
    ...(retryMs === undefined ? {} : { retryMs, error: exceptionLineOf(data.data) }),
  };
}

/** A lost attempt uses one of the service's own retries. The user's retries are for failures of the function. */
function lossOf(
  deps: ActivityDeps,
  facts: RetryFacts | undefined,
  frame: Uint8Array,
): Pick<Answer, 'state' | 'frame' | 'isLoss' | 'retryMs'> {
  const mayRepeat = (facts?.losses ?? 0) < deps.config.FUNCX_MAX_INFRASTRUCTURE_RETRIES;
  return { state: 'failed', frame, isLoss: true, ...(mayRepeat ? { retryMs: 0 } : {}) };
}

type Outcome = Pick<Answer, 'state' | 'frame'>;

async function outcomeOfUpload(
  deps: ActivityDeps,
  data: ResultData,
  attempt: number,
  isPublished: boolean,
): Promise<Outcome | undefined> {
  const bytes = await sizeOfUpload(deps.db, data.task_id, attempt);
  if (bytes === undefined) return undefined;
  const frame = openFrame(data);
  // Without a queue, the answer is never sent as a message, so the message limit does not apply.
  const refusal = isPublished ? tooLarge(deps, data.task_id, frame.length + bytes + 2) : undefined;
  return refusal ?? { state: 'succeeded', frame };
}

/** A result message up to its value. The store appends the value, so a large value does not pass through this process. */
function openFrame({ data: _value, ...rest }: ResultData): Uint8Array {
  const whole = encodeFrame({ message_type: 'result', data: { ...rest, data: '' } });
  return whole.subarray(0, whole.length - '""}}'.length);
}

/** Enforces the size limits, because stock agents do not check them. */
function limited(deps: ActivityDeps, result: ReceivedResult): Outcome {
  const limit = deps.config.FUNCX_MAX_BODY_CHARS;
  if (result.data.data.length <= limit) {
    return tooLarge(deps, result.data.task_id, result.body.length) ?? { state: 'succeeded', frame: result.body };
  }
  const text = `MaxResultSizeExceeded(${result.data.data.length}, ${limit})`;
  return { state: 'failed', frame: errorFrame(result.data.task_id, 'MaxResultSizeExceeded', text) };
}

/** A failure if the message exceeds the broker's limit. The broker would close the channel and fail all pending publishes. */
function tooLarge(deps: ActivityDeps, taskId: string, bytes: number): Outcome | undefined {
  const limit = deps.config.FUNCX_MAX_MESSAGE_BYTES;
  if (bytes <= limit) return undefined;
  const text = `The message of the result has ${bytes} bytes; the message broker takes ${limit}.`;
  return { state: 'failed', frame: errorFrame(taskId, 'MaxResultSizeExceeded', text) };
}

export function errorFrame(taskId: string, code: string, text: string): Uint8Array {
  return encodeFrame({
    message_type: 'result',
    data: { task_id: taskId, data: text, error_details: { code, user_message: text } },
  });
}

const END_BATCH_LIMIT = 1_000;

/**
 * Ends open tasks without a result of their own: cancelled, expired or lost tasks. Sends the agent a cancel command for the
 * attempts that it holds. With `onlyThisAttempt`, skips tasks whose listed attempt is no longer the latest. Returns the number of
 * ended tasks.
 */
export async function endTasks(
  deps: ActivityDeps,
  endpointQueueId: string,
  tasks: readonly OpenTask[],
  reason: EndReason & { onlyThisAttempt?: boolean },
): Promise<number> {
  let ended = 0;
  for (let at = 0; at < tasks.length; at += END_BATCH_LIMIT) {
    const stage = await store(
      deps,
      tasks.slice(at, at + END_BATCH_LIMIT).map((task) => ({
        taskId: task.id,
        ...(reason.onlyThisAttempt ? { attempt: task.attempt } : {}),
        state: reason.state,
        frame: errorFrame(task.id, reason.code, reason.text),
      })),
    );
    // Use the states of the store, not of the listing: a dispatch may have happened in between.
    const stored = stage.completed.filter((row) => row.verdict === 'stored');
    const inHand = stored.filter((row) => row.oldState === 'dispatched' || row.oldState === 'running');
    if (inHand.length > 0) {
      await tellAgent(
        deps,
        endpointQueueId,
        inHand.map((row) => attemptName(row.taskId, row.oldAttempt ?? 1)),
      );
    }
    await deliverAndNudge(deps, stage);
    ended += stored.length;
  }
  return ended;
}

/** Ends all open tasks of a deleted endpoint. Idempotent. */
export async function endTasksOfEndpoint(deps: ActivityDeps, endpointId: string): Promise<void> {
  const text = `Endpoint ${endpointId} was deleted while the task was open. Submit it to another endpoint.`;
  for (const { id, endpointQueueId } of await listOpenSubmissions(deps.db, { endpointId })) {
    const reason = { state: 'failed', code: 'EndpointDeleted', text } as const;
    await endTasks(deps, endpointQueueId, await listOpenTasks(deps.db, id), reason);
  }
  // The workflows of the endpoint queues then end and show that the endpoint was deleted.
  for (const endpointQueueId of await listQueueIds(deps.db, endpointId)) {
    await deps.temporal
      .signalChanged(endpointQueueId)
      .catch((error: unknown) => deps.log.debug({ err: error, endpointQueueId }, 'could not signal a deleted endpoint queue'));
  }
}

/** Sends a cancel command. Stock agents do not know the command; their late results are dropped as duplicates. */
async function tellAgent(deps: ActivityDeps, endpointQueueId: string, attempts: readonly string[]): Promise<void> {
  const command = { command: 'cancel', tasks: attempts };
  await deps.publisher
    .publish('', commandQueueName(endpointQueueId), Buffer.from(JSON.stringify(command)), { contentType: 'application/json' })
    .catch((error: unknown) =>
      deps.log.warn({ err: error, queue: tasksQueueName(endpointQueueId) }, 'could not send the cancel command to the agent'),
    );
}

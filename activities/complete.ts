import { PublishError } from '../broker';
import { encodeFrame, type ResultData } from '../contracts/frames';
import { groupQueueName, taskQueueName, commandQueueName } from '../contracts/names';
import { exceptionName, retryDelayMs } from '../contracts/policy';
import type { EndReason } from '../contracts/submission';
import { attemptName } from '../contracts/frames';
import { failPoint } from '../platform/fail-points';
import {
  markDelivered,
  readRetryFacts,
  hasUpload,
  removeUploads,
  storeAnswers,
  type Answer,
  type Completed,
  type RetryFacts,
} from '../platform/store/answers';
import type { OpenTask } from '../platform/store/submissions';
import type { ActivityDeps } from './deps';

/**
 * Completion: store (first answer wins), deliver (confirmed, then marked), nudge the submission. The broker is
 * acknowledged by the caller, last. Every step may be done again after a crash: a redelivered result is a duplicate only
 * if its answer is marked delivered, otherwise delivery and nudge are repeated from the stored bytes.
 */

/** A result message as it came from an agent. */
export interface ReceivedResult {
  taskQueueId: string;
  data: ResultData;
  /** The message body, kept byte for byte for the submitter. */
  body: Buffer;
  attempt: number | undefined;
  /** True when the body was left over HTTP before. */
  isStored: boolean;
  exitCode: number | undefined;
}

/** Failures that say that the attempt was lost, not that the function failed. */
const LOSS_CODES: ReadonlySet<string> = new Set(['WorkerLost', 'AgentLost']);
/** Signals to Temporal under way at once. */
const NUDGES_AT_ONCE = 32;

export type Stage = { completed: Completed[]; deliver: Delivery[] };

interface Delivery {
  taskId: string;
  ownerId: string;
  taskGroupId: string;
  frame: Uint8Array;
}

/** First stage: turns results into answers and stores them. */
export async function storeResults(deps: ActivityDeps, results: readonly ReceivedResult[]): Promise<Stage> {
  const failed = results.filter((result) => result.data.error_details);
  const facts =
    failed.length > 0
      ? await readRetryFacts(
          deps.db,
          failed.map((result) => result.data.task_id),
        )
      : new Map<string, RetryFacts>();
  const answers = await Promise.all(results.map((result) => toAnswer(deps, result, facts.get(result.data.task_id))));
  const stage = await store(deps, answers);
  const uploaded = results.filter((result) => result.isStored).map((result) => result.data.task_id);
  if (uploaded.length > 0) await removeUploads(deps.db, uploaded);
  return stage;
}

async function store(deps: ActivityDeps, answers: readonly Answer[]): Promise<Stage> {
  const completed = await storeAnswers(deps.db, answers);
  await failPoint('store');
  const deliver: Delivery[] = [];
  completed.forEach((row, index) => {
    const answer = answers[index];
    if (!answer || row.ownerId === null || row.taskGroupId === null) return;
    // Of a result that was left over HTTP only the store has the whole message.
    const frame = row.verdict === 'stored' ? (row.frame ?? answer.frame) : row.frame;
    // Without a queue of the group nobody is published to: the store is where its answers are read.
    if (frame && row.hasQueue) deliver.push({ taskId: row.taskId, ownerId: row.ownerId, taskGroupId: row.taskGroupId, frame });
  });
  return { completed, deliver };
}

/** Second stage: delivers what was stored and nudges the submissions that need it. */
export async function deliverAndNudge(deps: ActivityDeps, stage: Stage): Promise<void> {
  await deliver(deps, stage.deliver);
  await failPoint('deliver');
  const nudged = new Set<string>();
  for (const row of stage.completed) {
    // A duplicate that was not marked delivered may come from a crash before the nudge.
    if (row.nudge || (row.verdict === 'duplicate' && !row.delivered)) nudged.add(row.submissionId);
  }
  await nudgeAll(deps, [...nudged]);
  await failPoint('nudge');
}

/** Publishes answers to the queues of their task groups and marks them once the broker has confirmed. */
export async function deliver(deps: ActivityDeps, deliveries: readonly Delivery[]): Promise<void> {
  if (deliveries.length === 0) return;
  await Promise.all(
    deliveries.map(async ({ taskId, ownerId, taskGroupId, frame }) => {
      try {
        await deps.publisher.publish('', groupQueueName(ownerId, taskGroupId), frame, {
          messageId: taskId,
          mandatory: true,
          timestamp: Math.floor(Date.now() / 1000),
        });
      } catch (error) {
        // The queue expired because its reader stayed away; the answer is read from the store.
        if (!(error instanceof PublishError && error.reason === 'returned')) throw error;
      }
    }),
  );
  await markDelivered(
    deps.db,
    deliveries.map((delivery) => delivery.taskId),
  );
}

async function nudgeAll(deps: ActivityDeps, submissionIds: readonly string[]): Promise<void> {
  for (let at = 0; at < submissionIds.length; at += NUDGES_AT_ONCE) {
    await Promise.all(submissionIds.slice(at, at + NUDGES_AT_ONCE).map((id) => deps.temporal.nudge(id)));
  }
}

async function toAnswer(deps: ActivityDeps, result: ReceivedResult, facts: RetryFacts | undefined): Promise<Answer> {
  const { data } = result;
  const attempt = result.attempt ?? facts?.attempt ?? 1;
  const base = { taskId: data.task_id, taskQueueId: result.taskQueueId, attempt };
  if (!data.error_details) {
    const frame = result.isStored ? await frameOfUpload(deps, data, attempt) : limited(deps, result);
    return { ...base, ...frame };
  }
  const code = data.error_details.code;
  const failure = { code, exception: exceptionName(data.data), exitCode: result.exitCode };
  // A lost worker spends one of the service's own retries; the user's are for failures of the function.
  const retryMs = LOSS_CODES.has(code)
    ? attempt <= deps.config.FUNCX_MAX_INFRASTRUCTURE_RETRIES
      ? 0
      : undefined
    : retryDelayMs(facts?.policy ?? {}, attempt - (facts?.losses ?? 0), failure);
  return {
    ...base,
    state: code === 'Cancelled' ? 'cancelled' : 'failed',
    frame: result.body,
    ...(retryMs === undefined ? {} : { retryMs }),
  };
}

type Outcome = Pick<Answer, 'state' | 'frame'>;

async function frameOfUpload(deps: ActivityDeps, data: ResultData, attempt: number): Promise<Outcome> {
  if (!(await hasUpload(deps.db, data.task_id, attempt))) {
    const text = `The result of task ${data.task_id} was announced but never arrived. Submit the task again.`;
    return { state: 'failed', frame: errorFrame(data.task_id, 'AgentLost', text) };
  }
  return { state: 'succeeded', frame: openFrame(data) };
}

/** A result message up to its value, which the store puts behind it: a large value does not pass through this process. */
function openFrame({ data: _value, ...rest }: ResultData): Uint8Array {
  const whole = encodeFrame({ message_type: 'result', data: { ...rest, data: '' } });
  return whole.subarray(0, whole.length - '""}}'.length);
}

/** Agents check the limit as well; this is for those that do not. */
function limited(deps: ActivityDeps, result: ReceivedResult): Outcome {
  const limit = deps.config.FUNCX_MAX_BODY_CHARS;
  if (result.data.data.length <= limit) return { state: 'succeeded', frame: result.body };
  const text = `MaxResultSizeExceeded(${result.data.data.length}, ${limit})`;
  return { state: 'failed', frame: errorFrame(result.data.task_id, 'MaxResultSizeExceeded', text) };
}

/** A failed answer made by the service: an ordinary result message. */
export function errorFrame(taskId: string, code: string, text: string): Uint8Array {
  return encodeFrame({
    message_type: 'result',
    data: { task_id: taskId, data: text, error_details: { code, user_message: text } },
  });
}

/** Ends open tasks without a result of their own: cancelled, expired, lost. Tells the agent to stop what it holds. */
export async function endTasks(
  deps: ActivityDeps,
  taskQueueId: string,
  tasks: readonly OpenTask[],
  reason: EndReason,
): Promise<number> {
  if (tasks.length === 0) return 0;
  const stage = await store(
    deps,
    tasks.map((task) => ({
      taskId: task.id,
      attempt: task.attempt,
      state: reason.state,
      frame: errorFrame(task.id, reason.code, reason.text),
    })),
  );
  const inHand = tasks.filter((task) => task.state === 'dispatched' || task.state === 'running');
  if (inHand.length > 0) await tellAgent(deps, taskQueueId, inHand);
  await deliverAndNudge(deps, stage);
  return stage.completed.filter((row) => row.verdict === 'stored').length;
}

/** A stock agent has no such command; its late result is a duplicate and is dropped. */
async function tellAgent(deps: ActivityDeps, taskQueueId: string, tasks: readonly OpenTask[]): Promise<void> {
  const command = { command: 'cancel', tasks: tasks.map((task) => attemptName(task.id, task.attempt)) };
  await deps.publisher
    .publish('', commandQueueName(taskQueueId), Buffer.from(JSON.stringify(command)), { contentType: 'application/json' })
    .catch((error: unknown) =>
      deps.log.warn({ err: error, queue: taskQueueName(taskQueueId) }, 'could not tell the agent to stop'),
    );
}

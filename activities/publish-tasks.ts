import { CAPABILITY, encodeBatch, groupIntoBatches, type BatchMessage } from '../contracts/batches';
import { attemptName, encodeFrame, type BodyReference, type TaskData, type TaskHeaders } from '../contracts/frames';
import { tasksQueueName } from '../contracts/names';
import { signBodyToken } from '../platform/body-tokens';
import { ownerKey } from '../platform/owner-keys';
import { claimTasks, settleClaim, type ClaimBounds, type ClaimedTask } from '../platform/store/claims';
import { failPoint } from '../platform/fail-points';
import { endTasks } from './complete';
import type { ActivityDeps } from './deps';

/** Claims and publishes tasks. Tasks reach the broker in no other way. */

const CLAIM_TASKS = 500;
/** Maximum size of the bodies in one claim; the first task is always taken. */
const CLAIM_BYTES = 32 * 1024 * 1024;

/** Maximum number of tasks in one message, for agents that read batches. The format allows 64; more than 32 save little. */
const MAX_TASKS_PER_BATCH = 32;
/**
 * A batch holds at most the work of this time, by the measured rate. The agent acknowledges a batch after its last task, and
 * after a crash of the agent the whole batch runs again. Slow tasks are therefore sent alone.
 */
const BATCH_SPAN_S = 0.05;

/** Smaller code is sent with each task, because a token and a lookup cost as much. */
const MIN_BYTES_BY_HASH = 16 * 1024;

/**
 * If publishing takes longer, the claim is settled: Temporal may have timed out the activity (its heartbeat timeout is 1.5 s) and
 * started a retry, which must not publish the tasks again.
 */
const SETTLE_AFTER_MS = 5_000;

/** If it takes longer until a claim can be published, another pump may have taken the claim over. */
const CONFIRM_AFTER_MS = 500;

/**
 * A broker that hangs and recovers still confirms the messages in its socket. Publishing them again would create duplicates, and
 * stock agents run both. AMQP heartbeats close a connection that is silent for this long.
 */
const CONFIRM_DEADLINE_MS = 60_000;

export interface DispatchOptions {
  /** An earlier run of the same activity, perhaps in another process, may have published tasks of this claim. */
  isRepeated: boolean;
  /** The accept, in this or another process, may have claimed the tasks already. */
  mayBeClaimed?: boolean;
  /** Only tasks with IDs after `fromId` up to `toId` are claimed, and none while others wait. Default: any waiting task. */
  only?: ClaimBounds['only'];
  /** The tasks of the claim, if the accept claimed them in this process; otherwise empty. */
  claimed?: readonly ClaimedTask[];
  /** Called before a late publish. If it returns false, another pump publishes the claim, and this call publishes nothing. */
  isStillHeld?: () => Promise<boolean>;
}

/**
 * Claims waiting tasks of a queue, publishes them and returns the IDs of all claimed tasks. A task whose reference no longer
 * exists or whose message is too large ends instead of being published; its ID is returned too.
 *
 * While the message broker is blocked or unavailable, nothing is claimed, and a repeated claim rejects. If this function throws,
 * the claimed tasks stay dispatched; a call with the same claim id publishes the tasks that are still dispatched.
 */
export async function dispatchClaim(
  deps: ActivityDeps,
  endpointQueueId: string,
  claimId: string,
  { isRepeated, mayBeClaimed = false, only, claimed = [], isStillHeld }: DispatchOptions,
): Promise<string[]> {
  // The tasks of an existing claim are dispatched already, and nothing else would publish them. So this function throws, and
  // Temporal retries the activity until the broker accepts messages. A process learns that the broker is blocked only after its
  // first publish. Only a repeated claim must know before it publishes, so that no message is written twice.
  const isReady = deps.publisher.isReady || claimed.length > 0; // tasks claimed in this process wait here for the broker
  if (isRepeated || (mayBeClaimed && !isReady)) await deps.publisher.requireFlowing();
  else if (!isReady) return [];
  const startedMs = Date.now();
  const tasks =
    claimed.length > 0
      ? claimed
      : await claimTasks(deps.db, endpointQueueId, claimId, {
          tasks: CLAIM_TASKS,
          bytes: CLAIM_BYTES,
          inlineBytes: deps.config.FUNCX_INLINE_BODY_BYTES,
          only,
        });
  if (tasks.length === 0) return [];
  await failPoint('claim-commit');
  if (isStillHeld && Date.now() - startedMs > CONFIRM_AFTER_MS && !(await isStillHeld())) return [];
  const messages: TaskMessage[] = [];
  const ended: Promise<void>[] = [];
  for (const task of tasks) {
    if (task.missingSource !== null) {
      ended.push(endIncomplete(deps, endpointQueueId, task, task.missingSource));
      continue;
    }
    const message = messageOf(deps, endpointQueueId, task);
    const { length } = message.body;
    if (length <= deps.config.FUNCX_MAX_MESSAGE_BYTES) messages.push(message);
    else ended.push(endTooLarge(deps, endpointQueueId, task, length));
  }
  const published = groupIntoBatches(messages, batchLimit(tasks[0])).map(async (batch, index) => {
    await publishBatch(deps, endpointQueueId, batch);
    if (index === 0) await failPoint('first-publish');
  });
  const failed = (await Promise.allSettled([...published, ...ended])).find((outcome) => outcome.status === 'rejected');
  if (failed) throw failed.reason;
  await failPoint('last-publish');
  const ids = tasks.map((task) => task.id);
  if (Date.now() - startedMs > SETTLE_AFTER_MS) await settleClaim(deps.db, claimId, ids);
  return ids;
}

/** The tasks of this claim that are still dispatched. Never claims others. */
export function claimedBefore(deps: ActivityDeps, endpointQueueId: string, claimId: string): Promise<ClaimedTask[]> {
  const inlineBytes = deps.config.FUNCX_INLINE_BODY_BYTES;
  return claimTasks(deps.db, endpointQueueId, claimId, { tasks: 0, bytes: CLAIM_BYTES, inlineBytes });
}

/** Ends a task whose referenced result no longer exists: a retry cannot help. */
async function endIncomplete(deps: ActivityDeps, endpointQueueId: string, task: ClaimedTask, source: string): Promise<void> {
  await endTasks(deps, endpointQueueId, [{ id: task.id, attempt: task.attempt }], {
    state: 'failed',
    code: 'ReferenceExpired',
    text:
      `The arguments refer to the result of task ${source}, which was removed after its retention time before this task was sent. ` +
      'Repeat the call that produced this result, then submit again.',
  });
}

/** Ends a task whose message is too large: every publish would fail and close the channel for the other tasks. */
async function endTooLarge(deps: ActivityDeps, endpointQueueId: string, task: ClaimedTask, bytes: number): Promise<void> {
  const limit = deps.config.FUNCX_MAX_MESSAGE_BYTES;
  const text = `The message of the task has ${bytes} bytes; the message broker takes ${limit}. Pass the result of an earlier call by reference, or a path or URL that the endpoint can read.`;
  const reason = { state: 'failed', code: 'InvalidTask', onlyThisAttempt: true, text } as const;
  await endTasks(deps, endpointQueueId, [{ id: task.id, attempt: task.attempt }], reason);
}

interface TaskMessage extends BatchMessage {
  name: string;
}

function messageOf(deps: ActivityDeps, endpointQueueId: string, task: ClaimedTask): TaskMessage {
  const key = deps.config.FUNCX_TOKEN_KEY;
  const headers: TaskHeaders = {
    function_uuid: task.functionId,
    task_uuid: task.id,
    'funcx-attempt': task.attempt,
    'funcx-owner': task.isOwn ? 'own' : ownerKey(key, endpointQueueId, task.ownerId),
    'funcx-result-path': `/v1/tasks/${task.id}/result?attempt=${task.attempt}`,
    'funcx-result-token': signBodyToken(key, 'result', task.id, task.attempt),
    ...(task.resourceSpecification ? { resource_specification: JSON.stringify(task.resourceSpecification) } : {}),
    ...(task.resultSerializers ? { result_serializers: task.resultSerializers } : {}),
    ...(task.walltimeMs === null ? {} : { 'funcx-walltime-ms': task.walltimeMs }),
    ...(task.traceparent === null ? {} : { traceparent: task.traceparent }),
  };
  const body = encodeFrame({
    message_type: 'task',
    data: {
      task_id: task.id,
      container_id: null,
      ...bufferOf(task, (): BodyReference => ({
        path: `/v1/tasks/${task.id}/body`,
        token: signBodyToken(key, 'body', task.id, task.attempt),
      })),
    },
  });
  return { name: attemptName(task.id, task.attempt), headers: { ...headers }, body };
}

/** `claim` is the wire's name for a body reference. */
function bufferOf(task: ClaimedTask, reference: () => BodyReference): Pick<TaskData, 'task_buffer' | 'claim' | 'code_hash'> {
  if (task.payload === null) return { task_buffer: '', claim: reference() };
  const payload = task.payload.toString('utf8');
  if (task.code.length < MIN_BYTES_BY_HASH || !task.capabilities.includes(CAPABILITY.codeByHash)) {
    return { task_buffer: task.code.toString('utf8') + payload };
  }
  return { task_buffer: payload, code_hash: task.codeHash, claim: reference() };
}

function batchLimit(task: ClaimedTask | undefined): number {
  if (!task?.capabilities.includes(CAPABILITY.batches)) return 1;
  return Math.max(1, Math.min(MAX_TASKS_PER_BATCH, Math.floor(task.rate * BATCH_SPAN_S)));
}

async function publishBatch(deps: ActivityDeps, endpointQueueId: string, batch: readonly TaskMessage[]): Promise<void> {
  const [first, ...others] = batch;
  if (!first) return;
  const isAlone = others.length === 0;
  await deps.publisher.publish('', tasksQueueName(endpointQueueId), isAlone ? first.body : encodeBatch(batch), {
    ...(isAlone ? { headers: first.headers } : {}),
    mandatory: true,
    messageId: first.name,
    writeKeys: batch.map(({ name }) => name),
    waitsWhileBlocked: true,
    deadlineMs: CONFIRM_DEADLINE_MS,
  });
}

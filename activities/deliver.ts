import { PublishError } from '../broker';
import { encodeBatch, groupIntoBatches, MAX_BATCH_MESSAGES, type BatchMessage } from '../contracts/batches';
import { groupBatchQueueName, groupQueueName } from '../contracts/names';
import { markDelivered } from '../platform/store/answers';
import type { ActivityDeps } from './deps';
import { inParts } from './in-parts';
import { refusingQueues } from './refusing-queues';

/** Delivery: publishes stored answers to the queues of their task groups, and marks those that the broker accepted. */

export interface Delivery {
  taskId: string;
  ownerId: string;
  taskGroupId: string;
  frame: Uint8Array;
  hasQueue: boolean;
  hasBatchQueue: boolean;
}

/** Delivers answers that wait in the store, also to queues that refused answers before. Returns those that still wait. */
export async function deliver<T extends Delivery>(deps: ActivityDeps, deliveries: readonly T[]): Promise<T[]> {
  const undelivered: T[] = [];
  const published = publishAnswers(deps, deliveries, { triesRefusing: true });
  const answers = deliveries.map(async (delivery, index) => ({ ...delivery, delivery, outcome: await published[index] }));
  await inParts(answers, async (part) => {
    await markAccepted(deps, part);
    for (const { delivery, outcome } of part) if (outcome !== 'accepted') undelivered.push(delivery);
  });
  return undelivered;
}

/** `waiting`: the queue refused answers before, so nothing was published. Each other outcome but `accepted` is a failure. */
type DeliveryOutcome = 'accepted' | 'waiting' | Error;

/** An answer that is not accepted is not marked as delivered: the sweep delivers it later. */
export async function markAccepted(
  deps: ActivityDeps,
  part: readonly { taskId: string; outcome: DeliveryOutcome | undefined }[],
): Promise<void> {
  const failures = part.flatMap(({ outcome }) => (outcome instanceof Error ? [outcome] : []));
  if (failures.length > 0) {
    deps.log.warn(
      { err: failures.at(-1), answers: failures.length },
      'the broker did not accept answers; the sweep delivers them',
    );
  }
  const accepted = part.flatMap(({ taskId, outcome }) => (outcome === 'accepted' ? [taskId] : []));
  if (accepted.length > 0) await markDelivered(deps.db, accepted);
}

/** Publishes answers. Returns for each of them a promise of its outcome, which never rejects. */
export function publishAnswers(
  deps: ActivityDeps,
  deliveries: readonly Delivery[],
  { triesRefusing = false } = {},
): Promise<DeliveryOutcome>[] {
  const outcomes = new Map<Delivery, Promise<DeliveryOutcome>[]>(deliveries.map((delivery) => [delivery, []]));
  for (const message of messagesOf(deps, deliveries)) {
    const outcome = publishMessage(deps, message, triesRefusing);
    for (const delivery of message.answers) outcomes.get(delivery)?.push(outcome);
  }
  // An answer for two queues is accepted when both have accepted it.
  return deliveries.map(async (delivery) => {
    const all = await Promise.all(outcomes.get(delivery) ?? []);
    return all.find((outcome) => outcome !== 'accepted') ?? 'accepted';
  });
}

interface AnswerMessage {
  queue: string;
  answers: Delivery[];
}

/** Answers go to batch queues together, except those whose write is unconfirmed: it must not be repeated in another message. */
function messagesOf(deps: ActivityDeps, deliveries: readonly Delivery[]): AnswerMessage[] {
  const messages: AnswerMessage[] = [];
  const byBatchQueue = new Map<string, (BatchMessage & { delivery: Delivery })[]>();
  for (const delivery of deliveries) {
    const { taskId, ownerId, taskGroupId, hasQueue, hasBatchQueue } = delivery;
    if (hasQueue) messages.push({ queue: groupQueueName(ownerId, taskGroupId), answers: [delivery] });
    if (!hasBatchQueue) continue;
    const queue = groupBatchQueueName(ownerId, taskGroupId);
    const others = byBatchQueue.get(queue);
    const part = { delivery, headers: {}, body: delivery.frame };
    if (deps.publisher.isUnconfirmed(writeKeyOf(queue, taskId))) messages.push({ queue, answers: [delivery] });
    else if (others) others.push(part);
    else byBatchQueue.set(queue, [part]);
  }
  for (const [queue, all] of byBatchQueue) {
    for (const parts of groupIntoBatches(all, MAX_BATCH_MESSAGES)) {
      messages.push({ queue, answers: parts.map(({ delivery }) => delivery) });
    }
  }
  return messages;
}

const writeKeyOf = (queue: string, taskId: string): string => `${taskId} ${queue}`;

async function publishMessage(
  deps: ActivityDeps,
  { queue, answers }: AnswerMessage,
  triesRefusing: boolean,
): Promise<DeliveryOutcome> {
  const [first, ...others] = answers;
  if (!first) return 'accepted';
  if (!triesRefusing && refusingQueues.has(queue)) return 'waiting';
  try {
    const body = others.length === 0 ? first.frame : encodeBatch(answers.map(({ frame }) => ({ headers: {}, body: frame })));
    await deps.publisher.publish('', queue, body, {
      messageId: first.taskId,
      writeKeys: answers.map(({ taskId }) => writeKeyOf(queue, taskId)),
      mandatory: true,
      timestamp: Math.floor(Date.now() / 1000),
    });
  } catch (error) {
    if (!(error instanceof PublishError)) return error instanceof Error ? error : new Error(String(error));
    // A queue expires when nobody reads it for long; the submitter then reads the answer from the store. But RabbitMQ before
    // 3.12 also returns messages for a queue whose node is away, and the reader of that queue waits for the answer.
    const isGone = error.reason === 'returned' && (await deps.isQueueMissing(queue));
    if (!isGone) {
      if (QUEUE_FAULTS.has(error.reason)) refusingQueues.add(queue);
      return error;
    }
  }
  refusingQueues.delete(queue);
  return 'accepted';
}

/** The other reasons concern the connection, so they say nothing about the queue. */
const QUEUE_FAULTS: ReadonlySet<PublishError['reason']> = new Set(['returned', 'refused', 'timeout']);

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
  const answers = deliveries.map(async (delivery, index) => ({
    taskId: delivery.taskId,
    delivery,
    outcome: await published[index],
  }));
  await inParts(answers, async (part) => {
    await markAccepted(deps, part);
    for (const { delivery, outcome } of part) if (outcome !== 'accepted') undelivered.push(delivery);
  });
  return undelivered;
}

/**
 * `waiting`: the queue, or the other queue of its group, refused answers before, so nothing was published. Each other outcome but
 * `accepted` is a failure.
 */
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

/**
 * Publishes answers. Returns for each of them a promise of its outcome, which never rejects. No promise keeps an answer in memory
 * that the broker has confirmed.
 */
export function publishAnswers(
  deps: ActivityDeps,
  deliveries: readonly Delivery[],
  { triesRefusing = false } = {},
): Promise<DeliveryOutcome>[] {
  const outcomes = new Map<Delivery, Promise<DeliveryOutcome>[]>(deliveries.map((delivery) => [delivery, []]));
  const outcomesOf = ({ answers }: AnswerMessage): Promise<DeliveryOutcome>[] =>
    answers.flatMap((one) => outcomes.get(one) ?? []);
  function publish(message: AnswerMessage, earlier: readonly Promise<DeliveryOutcome>[]): void {
    const outcome = publishMessage(deps, message, triesRefusing, earlier);
    for (const delivery of message.answers) outcomes.get(delivery)?.push(outcome);
  }

  const messages = messagesOf(deps, deliveries);
  const refusing = new Set(messages.filter(({ queue }) => triesRefusing && refusingQueues.has(queue)));
  for (const message of refusing) publish(message, []);
  // The other queue of a group would get the same answer with each try.
  const last = messages.filter((message) => !refusing.has(message)).map((message) => [message, outcomesOf(message)] as const);
  for (const [message, earlier] of last) publish(message, earlier);
  return deliveries.map((delivery) => outcomeOf(outcomes.get(delivery) ?? []));
}

/** An answer for two queues is accepted when both have accepted it. */
async function outcomeOf(messages: readonly Promise<DeliveryOutcome>[]): Promise<DeliveryOutcome> {
  return (await Promise.all(messages)).find((outcome) => outcome !== 'accepted') ?? 'accepted';
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
  earlier: readonly Promise<DeliveryOutcome>[],
): Promise<DeliveryOutcome> {
  const [first, ...others] = answers;
  if (!first) return 'accepted';
  if (isSilent(deps, queue)) refusingQueues.add(queue);
  if (!triesRefusing && refusingQueues.has(queue)) return 'waiting';
  if (earlier.length > 0 && (await outcomeOf(earlier)) !== 'accepted') return 'waiting';
  const writes = unconfirmed.get(queue) ?? { count: 0, sinceMs: Date.now() };
  unconfirmed.set(queue, writes);
  writes.count++;
  try {
    const body = others.length === 0 ? first.frame : encodeBatch(answers.map(({ frame }) => ({ headers: {}, body: frame })));
    await deps.publisher.publish('', queue, body, {
      messageId: first.taskId,
      writeKeys: answers.map(({ taskId }) => writeKeyOf(queue, taskId)),
      mandatory: true,
      timestamp: Math.floor(Date.now() / 1000),
    });
    writes.sinceMs = Date.now();
  } catch (error) {
    if (!(error instanceof PublishError)) return error instanceof Error ? error : new Error(String(error));
    // A queue expires when nobody reads it for long; the submitter then reads the answer from the store. But RabbitMQ before
    // 3.12 also returns messages for a queue whose node is away, and the reader of that queue waits for the answer.
    const isGone = error.reason === 'returned' && (await deps.isQueueMissing(queue));
    if (!isGone) {
      if (isFaultOfQueue(deps, error)) refusingQueues.add(queue);
      return error;
    }
  } finally {
    if (--writes.count === 0) unconfirmed.delete(queue);
  }
  refusingQueues.delete(queue);
  return 'accepted';
}

/** While the broker confirms nothing at all, a queue that confirms nothing is as good as the others. */
const ALIVE_WITHIN_MS = 5_000;

/** The other reasons concern the connection, so they say nothing about the queue. */
function isFaultOfQueue({ publisher }: ActivityDeps, { reason }: PublishError): boolean {
  if (reason === 'timeout') return Date.now() - publisher.confirmedAtMs < ALIVE_WITHIN_MS;
  return reason === 'returned' || reason === 'refused';
}

/** A queue that confirmed none of so many writes for so long, while the broker confirmed others, must not hold more results. */
const SILENT_WRITES = 50;
const SILENT_MS = 2_000;

/** By queue: the writes that are not confirmed, and since when no write of the queue was confirmed. */
const unconfirmed = new Map<string, { count: number; sinceMs: number }>();

function isSilent({ publisher }: ActivityDeps, queue: string): boolean {
  const writes = unconfirmed.get(queue);
  if (!writes || writes.count < SILENT_WRITES) return false;
  const now = Date.now();
  return now - writes.sinceMs >= SILENT_MS && now - publisher.confirmedAtMs < SILENT_MS / 2;
}

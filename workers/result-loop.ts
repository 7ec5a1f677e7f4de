import { randomInt } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';

import type { ActivityDeps } from '../activities';
import { deliverAndNudge, storeResults, type ReceivedResult, type Stage } from '../activities/complete';
import { splitBatch, type Broker, type ReceivedMessage } from '../broker';
import { decodeFrame, resultHeadersSchema } from '../contracts/frames';
import { isUuid } from '../contracts/ids';
import { QUEUE, endpointQueueIdOfKey } from '../contracts/names';
import { failPoint } from '../platform/fail-points';
import { resultsByVerdict } from '../platform/metrics';
import { putAside } from './dead-letters';
import { createLateNudges } from './late-nudges';
import type { ResultGuard } from './result-guard';
import type { ResultsInHand } from './results-in-hand';

/**
 * Passes results to `activities/complete`. While one batch is stored, further results form the next batch: a single result is
 * stored immediately, many results in large batches. A batch is delivered while the next one is stored, and each result is
 * acknowledged last.
 */

/** In messages; one message holds up to 32 results. */
const PREFETCH = 500;
/** Limit for the bodies of all results that this process holds. */
const PREFETCH_BYTES = 48 * 1024 * 1024;
const BATCH_LIMIT = 500;
/** Limit for the bodies of one batch; the first result is always taken. A statement holds several copies of the bodies. */
const BATCH_LIMIT_BYTES = 8 * 1024 * 1024;
/** While results keep coming, a batch of fewer than MIN_BATCH waits this long for more. */
const LINGER_MS = 5;
const MIN_BATCH = 50;
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 5_000;

interface Waiting {
  message: ReceivedMessage;
  result: ReceivedResult;
  /** Call when the message was acknowledged, requeued, or lost with its channel. */
  settle(): void;
}

/**
 * Random, so that one of several processes gets all results until its receive window is full; only then do the others help. With
 * equal priorities, each process makes batches of its own, and twice as many batches cost a quarter more for each task.
 */
const PRIORITY = randomInt(1, 2 ** 20);

export interface ResultLoop {
  isConsuming(): boolean;
  /** Receives no more results and resolves when those in hand are done. */
  close(): Promise<void>;
}

/** `onStatus` receives the status reports that agents without their own status queue publish among their results. */
export async function startResultLoop(
  broker: Broker,
  deps: ActivityDeps,
  onStatus: (message: ReceivedMessage) => Promise<void>,
  { guard, inHand }: { guard: ResultGuard; inHand: ResultsInHand },
): Promise<ResultLoop> {
  const waiting: Waiting[] = [];
  let isStoring = false;
  let isBusy = false;
  let pauseMs = FIRST_PAUSE_MS;
  const lateNudges = createLateNudges(deps);

  const consumer = await broker.consume({
    queue: QUEUE.results,
    prefetch: PREFETCH,
    prefetchBytes: PREFETCH_BYTES,
    priority: PRIORITY,
    onMessage: async (message) => {
      if (guard.drops(endpointQueueIdOfKey(message.routingKey), message.body.length)) {
        resultsByVerdict.inc({ verdict: 'dropped' });
        return message.ack();
      }
      let parts: ReceivedMessage[];
      try {
        parts = splitBatch(message);
      } catch (error) {
        return refuse(message, error instanceof Error ? error.message : String(error));
      }
      await Promise.all(parts.map(receive));
    },
    // The broker delivers the waiting messages again on the next channel.
    onInterrupted: () => {
      for (const { settle } of waiting.splice(0)) settle();
    },
  });

  function receive(message: ReceivedMessage): Promise<void> {
    const result = parse(message, maxFrameBytes(deps.config.FUNCX_MAX_BODY_CHARS));
    if (result === 'status') return onStatus(message);
    if (typeof result === 'string') return refuse(message, result);
    const taskId = result.data.task_id;
    inHand.add(taskId);
    return new Promise<void>((settle) => {
      waiting.push({ message, result, settle });
      void work();
    }).finally(() => inHand.remove(taskId));
  }

  function refuse(message: ReceivedMessage, reason: string): Promise<void> {
    guard.note(endpointQueueIdOfKey(message.routingKey), message.body.length);
    return putAside(deps, QUEUE.results, message, reason);
  }

  async function work(): Promise<void> {
    if (isStoring) return;
    isStoring = true;
    while (waiting.length > 0) {
      if (isBusy && waiting.length < MIN_BATCH) await delay(LINGER_MS);
      const batch = takeBatch();
      if (batch.length === 0) break; // the channel closed meanwhile
      isBusy = batch.length > 1;
      try {
        const stage = await storeResults(
          deps,
          batch.map((item) => item.result),
        );
        noteVerdicts(batch, stage);
        void finish(batch, stage);
      } catch (error) {
        if (isAboutData(error)) await storeSingly(batch, error);
        else await giveBack(batch, error, 'results could not be stored');
      }
    }
    isStoring = false;
  }

  function noteVerdicts(batch: readonly Waiting[], { completed }: Stage): void {
    completed.forEach(({ verdict }, index) => {
      resultsByVerdict.inc({ verdict });
      const result = batch[index]?.result;
      if (result && (verdict === 'unknown' || verdict === 'foreign')) guard.note(result.endpointQueueId, result.body.length);
    });
  }

  /** Stores the results of a refused batch one by one: a bad result must neither block the others nor be redelivered forever. */
  async function storeSingly(batch: Waiting[], error: unknown): Promise<void> {
    deps.log.warn({ err: error, results: batch.length }, 'the store refused a batch of results; storing each result alone');
    for (let item = batch.shift(); item; item = batch.shift()) {
      try {
        const stage = await storeResults(deps, [item.result]);
        noteVerdicts([item], stage);
        await finish([item], stage);
      } catch (single) {
        if (!isAboutData(single)) await giveBack([item], single, 'results could not be stored');
        else {
          await putAside(deps, QUEUE.results, item.message, `the store refused the result: ${single.message}`);
          item.settle();
        }
      }
    }
  }

  function takeBatch(): Waiting[] {
    let bytes = 0;
    let n = 0;
    while (n < waiting.length && n < BATCH_LIMIT && (n === 0 || bytes < BATCH_LIMIT_BYTES)) {
      bytes += waiting[n]?.result.body.length ?? 0;
      n++;
    }
    return waiting.splice(0, n);
  }

  /** Takes each acknowledged result out of `batch`: its bytes no longer count, so its body must not stay in memory. */
  async function finish(batch: (Waiting | undefined)[], stage: Stage): Promise<void> {
    lateNudges.note(stage.completed);
    try {
      await deliverAndNudge(deps, stage, async (rows) => {
        await failPoint('before-ack');
        for (const row of rows) {
          const item = batch[row]!; // the store returns a row for each result
          batch[row] = undefined;
          item.message.ack();
          item.settle();
        }
      });
      pauseMs = FIRST_PAUSE_MS;
    } catch (error) {
      const left = batch.filter((item) => item !== undefined);
      await giveBack(left, error, 'answers could not be delivered');
    }
  }

  /** Requeues results after a pause: the store or the broker is unavailable. */
  async function giveBack(batch: readonly Waiting[], error: unknown, text: string): Promise<void> {
    deps.log.warn({ err: error, results: batch.length, pauseMs }, text);
    await delay(pauseMs);
    pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
    for (const { message, settle } of batch) {
      message.nack(true);
      settle();
    }
  }

  return {
    isConsuming: () => consumer.isConsuming,
    async close() {
      await consumer.pause();
      lateNudges.close();
      await consumer.close();
    },
  };
}

/** A character of a body has at most four bytes in a message; the rest of a result is small. */
const maxFrameBytes = (bodyChars: number): number => 4 * bodyChars + 1024 * 1024;

/** SQLSTATE classes 22 (data exception) and 23 (constraint violation): a retry fails in the same way. */
function isAboutData(error: unknown): error is Error {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && /^2[23]/.test(error.code);
}

/** The result, `status` for a status report, or a text that says why the message is neither. */
function parse(message: ReceivedMessage, maxBytes: number): ReceivedResult | string {
  if (message.body.length > maxBytes) return `a message of ${message.body.length} bytes; a result may have ${maxBytes}`;
  try {
    const frame = decodeFrame(message.body);
    if (frame.message_type === 'ep_status_report') return 'status';
    if (frame.message_type !== 'result') return `a ${frame.message_type} message on the result queue`;
    const headers = resultHeadersSchema.parse(message.headers);
    const endpointQueueId = endpointQueueIdOfKey(message.routingKey);
    if (!isUuid(endpointQueueId)) return `the routing key ${message.routingKey.slice(0, 100)} names no endpoint queue`;
    return {
      endpointQueueId,
      data: frame.data,
      body: message.body,
      attempt: headers['funcx-attempt'],
      isStored: headers['funcx-stored'] ?? false,
      exitCode: headers['funcx-exit-code'],
      capacity: headers['funcx-capacity'],
    };
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

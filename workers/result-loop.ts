import { setTimeout as delay } from 'node:timers/promises';

import type { ActivityDeps } from '../activities';
import { deliverAndNudge, storeResults, type ReceivedResult } from '../activities/complete';
import type { Broker, Consumer, Delivery } from '../broker';
import { decodeFrame, resultHeadersSchema } from '../contracts/frames';
import { isUuid } from '../contracts/ids';
import { QUEUE, endpointQueueIdOfKey } from '../contracts/names';
import { failPoint } from '../platform/fail-points';
import { resultsByVerdict } from '../platform/metrics';
import { putAside } from './dead-letters';
import { createLateNudges } from './late-nudges';

/**
 * Feeds results to `activities/complete`. While one batch is stored the next one gathers, and while they keep coming for a
 * few milliseconds more: so a single result is stored at once and a flood in large batches. Delivery of a batch runs beside
 * the store of the next. The broker is acknowledged last.
 */

const PREFETCH = 2_000;
const BATCH = 500;
/** Bodies of one batch at most; the first result is always taken. */
const BATCH_BYTES = 32 * 1024 * 1024;
/** In a flood, how long fewer results than these wait for more. */
const LINGER_MS = 5;
const FEW = 50;
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 5_000;

interface Waiting {
  delivery: Delivery;
  result: ReceivedResult;
}

export interface ResultLoop {
  isConsuming(): boolean;
  /** Takes no more results and resolves when those in hand are done. */
  close(): Promise<void>;
}

/** `onStatus` gets the status reports that agents without a status queue of their own publish among their results. */
export async function startResultLoop(
  broker: Broker,
  deps: ActivityDeps,
  onStatus: (delivery: Delivery) => void,
): Promise<ResultLoop> {
  let waiting: Waiting[] = [];
  let isStoring = false;
  let isBusy = false;
  let pauseMs = FIRST_PAUSE_MS;
  const delivering = new Set<Promise<void>>();
  const idle: (() => void)[] = [];
  const lateNudges = createLateNudges(deps);

  const consumer: Consumer = await broker.consume({
    queue: QUEUE.results,
    prefetch: PREFETCH,
    onDelivery: (delivery) => {
      const result = parse(delivery);
      if (result === 'status') {
        onStatus(delivery);
        return;
      }
      if (typeof result === 'string') {
        void putAside(deps, QUEUE.results, delivery, result);
        return;
      }
      waiting.push({ delivery, result });
      void work();
    },
    // What waits here is delivered again on the next channel.
    onInterrupted: () => (waiting = []),
  });

  async function work(): Promise<void> {
    if (isStoring) return;
    isStoring = true;
    while (waiting.length > 0) {
      if (isBusy && waiting.length < FEW) {
        await delay(LINGER_MS);
        if (waiting.length === 0) break; // the channel went meanwhile, and they come again
      }
      const batch = takeBatch();
      isBusy = batch.length > 1;
      try {
        const stage = await storeResults(
          deps,
          batch.map((item) => item.result),
        );
        for (const row of stage.completed) resultsByVerdict.inc({ verdict: row.verdict });
        const done = finish(batch, stage).finally(() => delivering.delete(done));
        delivering.add(done);
      } catch (error) {
        if (isAboutData(error)) await storeSingly(batch, error);
        else await giveBack(batch, error, 'results could not be stored');
      }
    }
    isStoring = false;
    for (const resolve of idle.splice(0)) resolve();
  }

  /** The store refuses something in the batch: one bad result must neither block the others nor come back for ever. */
  async function storeSingly(batch: readonly Waiting[], error: unknown): Promise<void> {
    deps.log.warn({ err: error, results: batch.length }, 'the store refuses a batch of results; each is stored by itself');
    for (const item of batch) {
      try {
        await finish([item], await storeResults(deps, [item.result]));
      } catch (single) {
        if (isAboutData(single)) await putAside(deps, QUEUE.results, item.delivery, `the store refuses it: ${single.message}`);
        else await giveBack([item], single, 'results could not be stored');
      }
    }
  }

  function takeBatch(): Waiting[] {
    let bytes = 0;
    let n = 0;
    while (n < waiting.length && n < BATCH && (n === 0 || bytes < BATCH_BYTES)) {
      bytes += waiting[n]?.result.body.length ?? 0;
      n++;
    }
    return waiting.splice(0, n);
  }

  async function finish(batch: readonly Waiting[], stage: Awaited<ReturnType<typeof storeResults>>): Promise<void> {
    try {
      await deliverAndNudge(deps, stage);
      lateNudges.note(stage.completed);
      await failPoint('before-ack');
      for (const { delivery } of batch) delivery.ack();
      pauseMs = FIRST_PAUSE_MS;
    } catch (error) {
      await giveBack(batch, error, 'answers could not be delivered');
    }
  }

  /** Back to the queue after a pause: an engine is away, and the results are safe with the broker. */
  async function giveBack(batch: readonly Waiting[], error: unknown, text: string): Promise<void> {
    deps.log.warn({ err: error, results: batch.length, pauseMs }, text);
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
    pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
    for (const { delivery } of batch) delivery.nack(true);
  }

  return {
    isConsuming: () => consumer.isConsuming,
    async close() {
      await consumer.pause();
      if (isStoring) await new Promise<void>((resolve) => idle.push(resolve));
      await Promise.all(delivering);
      lateNudges.close();
      await consumer.close();
    },
  };
}

/** SQLSTATE classes 22 (data exception) and 23 (constraint): trying again gives the same answer. */
function isAboutData(error: unknown): error is Error {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && /^2[23]/.test(error.code);
}

/** The result; `status` for a status report; or why the message is neither. */
function parse(delivery: Delivery): ReceivedResult | string {
  try {
    const frame = decodeFrame(delivery.body);
    if (frame.message_type === 'ep_status_report') return 'status';
    if (frame.message_type !== 'result') return `a ${frame.message_type} message on the result queue`;
    const headers = resultHeadersSchema.parse(delivery.headers);
    const endpointQueueId = endpointQueueIdOfKey(delivery.routingKey);
    if (!isUuid(endpointQueueId)) return `the routing key ${delivery.routingKey.slice(0, 100)} names no endpoint queue`;
    return {
      endpointQueueId,
      data: frame.data,
      body: delivery.body,
      attempt: headers['funcx-attempt'],
      isStored: headers['funcx-stored'] ?? false,
      exitCode: headers['funcx-exit-code'],
    };
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

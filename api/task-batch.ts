import { once } from 'node:events';

import type { Response } from 'express';

import { RetryableError } from '../contracts/errors';
import { readFrames, sizeTasks, type TaskSize } from '../platform/store/tasks';
import type { Database } from '../platform/store/database';
import { ByteBudget, takeWithin } from './byte-budget';
import { taskDocument } from './results';
import { ANSWERED } from './route';

/** Clients expect all tasks in one response, however large: it is read page by page, and written as fast as they read. */

/** Bytes of results in one page. A larger result has a page of its own. */
const PAGE_BYTES = 4 * 1024 * 1024;
const PAGE_TASKS = 5_000;
/** In memory, a page exists several times: as frames, as documents, as JSON and as bytes for the socket. */
const COPIES = 4;
/** Bytes of the pages of all requests. */
const LIMIT_BYTES = 128 * 1024 * 1024;
/** A response of this size needs no pages. */
const SMALL_BYTES = 256 * 1024;
/** Released clients give up after 15 to 20 s of refusals, so a request waits that long before it is refused. */
const MAX_WAIT_MS = 20_000;
/** How long a client may read nothing. */
const MAX_STALL_MS = 60_000;
const RETRY_AFTER_S = 5;

interface BatchRequest {
  ownerId: string;
  taskIds: readonly string[];
  res: Response;
  /** The document of a task that does not exist. Default: the task is omitted. */
  unknown?: (taskId: string) => object;
}

export type TaskBatches = (request: BatchRequest) => Promise<unknown>;

export function createTaskBatches(
  db: Database,
  { limitBytes = LIMIT_BYTES, maxWaitMs = MAX_WAIT_MS }: { limitBytes?: number; maxWaitMs?: number } = {},
): TaskBatches {
  const budget = new ByteBudget(limitBytes);

  return async function answerBatch({ ownerId, taskIds, res, unknown }) {
    const tasks = await sizeTasks(db, ownerId, taskIds);
    const known = new Set(tasks.map(({ id }) => id));
    const missing = unknown ? taskIds.filter((id) => !known.has(id)).map((id) => [id, unknown(id)] as const) : [];
    if (bytesOf(tasks) <= SMALL_BYTES && tasks.length <= PAGE_TASKS) {
      return { response: 'batch', results: Object.fromEntries([...(await readDocuments(db, tasks)), ...missing]) };
    }
    await stream(res, pagesOf(tasks), missing);
    return ANSWERED;
  };

  async function stream(
    res: Response,
    pages: readonly TaskSize[][],
    missing: readonly (readonly [string, object])[],
  ): Promise<void> {
    const closed = new AbortController();
    const abort = (): void => closed.abort();
    res.once('close', abort);
    let separator = '{"response":"batch","results":{';
    for (const page of pages) {
      // A response that has begun can only be cut off, so its later pages may wait longer than the first one.
      const waitMs = res.headersSent ? MAX_STALL_MS : maxWaitMs;
      const release = await takeWithin(budget, bytesOf(page) * COPIES, waitMs, closed.signal);
      if (closed.signal.aborted) break;
      if (!release) {
        throw new RetryableError('The service holds too many large responses. Repeat this request in a few seconds.', {
          retryAfterS: RETRY_AFTER_S,
        });
      }
      try {
        const documents = await readDocuments(db, page);
        if (!res.headersSent) res.status(200).type('json');
        for (const [id, document] of documents) {
          res.write(`${separator}${JSON.stringify(id)}:${JSON.stringify(document)}`);
          separator = ',';
        }
        await drained(res, closed.signal);
      } finally {
        release();
      }
      if (closed.signal.aborted) break;
    }
    res.off('close', abort);
    if (closed.signal.aborted) return;
    for (const [id, document] of missing) res.write(`,${JSON.stringify(id)}:${JSON.stringify(document)}`);
    res.end('}}');
  }
}

async function readDocuments(db: Database, tasks: readonly TaskSize[]): Promise<[string, object][]> {
  const answered = tasks.filter(({ frameBytes }) => frameBytes > 0).map(({ id }) => id);
  const frames = answered.length > 0 ? await readFrames(db, answered) : new Map<string, Buffer>();
  return tasks.map((task) => [task.id, taskDocument({ ...task, frame: frames.get(task.id) ?? null })]);
}

/** Resolves when the socket has taken everything. A client that reads nothing for too long loses its connection. */
async function drained(res: Response, closed: AbortSignal): Promise<void> {
  if (!res.writableNeedDrain) return;
  const timer = setTimeout(() => res.destroy(), MAX_STALL_MS);
  await once(res, 'drain', { signal: closed }).catch(() => undefined); // closed: the caller checks the signal
  clearTimeout(timer);
}

function pagesOf(tasks: readonly TaskSize[]): TaskSize[][] {
  const pages: TaskSize[][] = [];
  let bytes = 0;
  for (const task of tasks) {
    const page = pages.at(-1);
    bytes += task.frameBytes;
    if (page && page.length < PAGE_TASKS && bytes <= PAGE_BYTES) page.push(task);
    else {
      pages.push([task]);
      bytes = task.frameBytes;
    }
  }
  return pages;
}

function bytesOf(tasks: readonly TaskSize[]): number {
  return tasks.reduce((sum, { frameBytes }) => sum + frameBytes, 0);
}

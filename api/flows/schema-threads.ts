import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';

import { TerminalError } from '../../contracts/errors';
import type { SchemaAnswer, SchemaJob } from './schema-jobs';

/** Threads, so that no schema stops the process. Owners take turns, one job each: an owner of slow schemas waits alone. */

const MAX_THREADS = 2;
const MAX_WAITING = 500;
const MAX_WAIT_MS = 20_000;
const RETRY_AFTER_S = 5;
/** A thread limits its own time. This also covers its start, and what its watchdog does not interrupt. */
const MAX_JOB_MS = 20_000;
const MAX_MEMORY_MB = 256;

/** A thread needs compiled code. Tests run the sources, and have it in `dist/`. */
const NAME = 'schema-thread.js';
const beside = join(__dirname, NAME);
const FILE = existsSync(beside) ? beside : join(__dirname, '..', '..', 'dist', 'api', 'flows', NAME);

interface Waiting {
  job: SchemaJob;
  untilMs: number;
  resolve: (answer: SchemaAnswer) => void;
  reject: (error: Error) => void;
}

class SchemaThread {
  readonly #worker = new Worker(FILE, { resourceLimits: { maxOldGenerationSizeMb: MAX_MEMORY_MB } });
  #end: ((answer: SchemaAnswer | 'died') => void) | undefined;
  #jobs = 0;
  isDead = false;

  constructor() {
    this.#worker.on('message', (answer: SchemaAnswer) => this.#end?.(answer));
    this.#worker.on('error', () => this.#die('died'));
    this.#worker.on('exit', () => this.#die('died'));
    this.#worker.unref(); // last: a listener of messages would keep the process alive
  }

  /** True if an earlier job may have left memory behind. */
  get isUsed(): boolean {
    return this.#jobs > 0;
  }

  /** `died`: the thread ended, for example because it ran out of memory. */
  run(job: SchemaJob): Promise<SchemaAnswer | 'died'> {
    this.#jobs++;
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#die('late'), MAX_JOB_MS);
      this.#end = (answer) => {
        clearTimeout(timer);
        this.#end = undefined;
        resolve(answer);
      };
      this.#worker.postMessage(job);
    });
  }

  #die(answer: 'late' | 'died'): void {
    this.isDead = true;
    void this.#worker.terminate();
    this.#end?.(answer);
  }
}

/** Jobs by owner; the owner whose turn is next comes first. */
const queues = new Map<string, Waiting[]>();
const running = new Set<string>();
const idle: SchemaThread[] = [];

export function runSchemaJob(ownerId: string, job: SchemaJob): Promise<SchemaAnswer> {
  const queue = queues.get(ownerId) ?? [];
  if (queue.length >= MAX_WAITING) throw tooMany();
  queues.set(ownerId, queue);
  return new Promise((resolve, reject) => {
    queue.push({ job, untilMs: Date.now() + MAX_WAIT_MS, resolve, reject });
    startNext();
  });
}

function startNext(): void {
  for (const [ownerId, queue] of queues) {
    if (running.size >= MAX_THREADS) return;
    if (running.has(ownerId)) continue;
    queues.delete(ownerId);
    let next = queue.shift();
    for (; next && next.untilMs < Date.now(); next = queue.shift()) next.reject(tooMany());
    if (queue.length > 0) queues.set(ownerId, queue);
    if (next) void runNext(ownerId, next);
  }
}

async function runNext(ownerId: string, { job, resolve, reject }: Waiting): Promise<void> {
  running.add(ownerId);
  try {
    let thread = idle.pop();
    if (!thread || thread.isDead) thread = new SchemaThread();
    const wasUsed = thread.isUsed;
    let answer = await thread.run(job);
    // Earlier jobs may have filled the memory of the thread.
    if (answer === 'died' && wasUsed) answer = await (thread = new SchemaThread()).run(job);
    resolve(answer === 'died' ? 'late' : answer);
    if (!thread.isDead) idle.push(thread);
  } catch (error) {
    reject(error as Error);
  }
  running.delete(ownerId);
  startNext();
}

const tooMany = (): TerminalError =>
  new TerminalError(
    'LIMIT_EXCEEDED',
    'Too many of your inputs and schemas wait to be checked. Send fewer at a time, or simplify the schemas.',
    { retryAfterS: RETRY_AFTER_S },
  );

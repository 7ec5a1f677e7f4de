import { createHash, randomUUID } from 'node:crypto';

import type { ClientOptions } from '../client';
import { ensureError, TerminalError } from '../contracts/errors';
import { isUuid } from '../contracts/ids';
import { packJsonArguments } from '../contracts/packing';

import { Client, type SubmitOptions } from './client';
import { ExecutorClosedError, taskErrorOf } from './errors';
import { javascript, type AnyFunction, type FunctionSource } from './functions';
import { TaskFuture } from './future';
import { GroupListener, type Transport } from './group-listener';
import { wirePolicy, type CallPolicy } from './policy';
import type { DeliveredResult } from './results';
import { SubmitBatches } from './submit-batches';
import { valueOf } from './values';

export interface ExecutorOptions extends CallPolicy {
  /** ID of the endpoint where the calls run. */
  endpointId: string;
  /** A client, or options for a new client that is closed with the executor. Default: a new client from the environment. */
  client?: Client | ClientOptions;
  /** Task group of the calls. Default: a new group. */
  taskGroupId?: string;
  /** How results arrive. Default: `auto`. */
  transport?: Transport;
  /** Maximum number of calls in one request. Default: 128. */
  batchSize?: number;
  /** How long the first call of a request waits for more calls, in milliseconds. Default: 4. */
  batchDelayMs?: number;
  /** Resource specification for stock endpoints. */
  resourceSpecification?: Record<string, unknown>;
}

/** A callable: a JavaScript function, a source, or the ID of a registered function. */
export type Callable<Result> = FunctionSource<Result> | string;

const DEFAULT_BATCH_SIZE = 128;
const DEFAULT_BATCH_DELAY_MS = 4;

/**
 * Runs functions on one endpoint and returns a future for each call.
 *
 * `open` -close-> `closing` (accepts no calls; waits for answers) -> `closed`. A closed executor does not keep the process alive.
 */
export class Executor {
  /** Task group of all calls. Another process can use it to read their results. */
  readonly taskGroupId: string;
  readonly endpointId: string;
  readonly #client: Client;
  readonly #ownsClient: boolean;
  readonly #options: ExecutorOptions;
  readonly #batches: SubmitBatches;
  readonly #open = new Map<string, TaskFuture<unknown>>();
  /** Results that arrived before the response to their submit request. */
  readonly #early = new Map<string, DeliveredResult>();
  readonly #listeners = new Map<string, GroupListener>();
  readonly #functionIds = new Map<string, Promise<string>>();
  readonly #keys = new WeakMap<AnyFunction, string>();
  readonly #cancels = new Set<Promise<unknown>>();
  readonly #whenSettled = new Set<() => void>();
  #closing: Promise<void> | undefined;

  constructor(options: ExecutorOptions) {
    if (!isUuid(options.endpointId.toLowerCase())) {
      throw new TerminalError('INVALID_REQUEST', `"${options.endpointId}" is not an endpoint ID; see "funcx endpoint list".`);
    }
    wirePolicy(options); // throws here rather than at the first call
    this.#options = options;
    this.endpointId = options.endpointId.toLowerCase();
    this.taskGroupId = options.taskGroupId?.toLowerCase() ?? randomUUID();
    this.#ownsClient = !(options.client instanceof Client);
    this.#client = options.client instanceof Client ? options.client : new Client(options.client);
    const submit: SubmitOptions = {
      taskGroupId: this.taskGroupId,
      createQueue: this.#readsQueue,
      resultBatches: true,
      retries: options.retries,
      walltimeS: options.walltimeS,
      deadlineS: options.deadlineS,
      resourceSpecification: options.resourceSpecification,
    };
    this.#batches = new SubmitBatches(this.#client, {
      endpointId: this.endpointId,
      submit,
      maxCalls: options.batchSize ?? DEFAULT_BATCH_SIZE,
      delayMs: options.batchDelayMs ?? DEFAULT_BATCH_DELAY_MS,
      onAccepted: (taskId, future) => this.#onAccepted(taskId, future),
    });
  }

  /** How results currently arrive. */
  get transport(): 'amqp' | 'events' | 'poll' {
    return this.#listeners.get(this.taskGroupId)?.way ?? 'amqp';
  }

  /** Calls a function with positional arguments. Arguments and result are JSON. */
  submit<Args extends unknown[], Result>(fn: (...args: Args) => Result, ...args: Args): TaskFuture<Awaited<Result>>;
  submit<Result = unknown>(fn: Callable<Result>, ...args: unknown[]): TaskFuture<Result>;
  submit(fn: AnyFunction | Callable<unknown>, ...args: unknown[]): TaskFuture<unknown> {
    return this.#call(fn, args, {});
  }

  /** Calls a function with positional and keyword arguments. */
  call<Result = unknown>(
    fn: AnyFunction | Callable<Result>,
    { args = [], kwargs = {} }: { args?: readonly unknown[]; kwargs?: Readonly<Record<string, unknown>> },
  ): TaskFuture<Result> {
    return this.#call(fn, args, kwargs) as TaskFuture<Result>;
  }

  /** Calls a function once for each element, as its only argument. Returns the futures in the same order. */
  map<Arg, Result>(fn: (arg: Arg) => Result, args: Iterable<Arg>): TaskFuture<Awaited<Result>>[];
  map<Result = unknown>(fn: Callable<Result>, args: Iterable<unknown>): TaskFuture<Result>[];
  map(fn: AnyFunction | Callable<unknown>, args: Iterable<unknown>): TaskFuture<unknown>[] {
    return Array.from(args, (arg) => this.#call(fn, [arg], {}));
  }

  /** Returns a future for every task of a group, in task ID order, whoever submitted it. Stored results settle at once. */
  async reattach(taskGroupId: string = this.taskGroupId): Promise<TaskFuture<unknown>[]> {
    this.#requireOpen();
    const id = taskGroupId.toLowerCase();
    const queue = this.#readsQueue ? 'batches' : 'none';
    const futures = (await this.#client.groupTaskIds(id, { queue })).map((taskId) => {
      const known = this.#open.get(taskId);
      if (known) return known;
      const future = this.#newFuture();
      future.accept(taskId);
      this.#open.set(taskId, future);
      return future;
    });
    // Listen before reading the store, so that no result in between is missed.
    await this.#listen(id).catchUp();
    return futures;
  }

  /**
   * Sends pending calls, waits for all answers and closes all connections. With `wait: false`, rejects open futures instead of
   * waiting; their tasks continue. A second call with `wait: false` ends the wait of an earlier call.
   */
  async close({ wait = true }: { wait?: boolean } = {}): Promise<void> {
    this.#closing ??= this.#batches.drain();
    await this.#closing;
    if (wait) await this.#settled();
    await Promise.allSettled(this.#cancels);
    for (const future of this.#open.values()) future.reject(new ExecutorClosedError(this.taskGroupId));
    this.#open.clear();
    this.#tellSettled();
    await Promise.all([...this.#listeners.values()].map((listener) => listener.close()));
    if (this.#ownsClient) this.#client.close();
  }

  #call(
    fn: AnyFunction | Callable<unknown>,
    args: readonly unknown[],
    kwargs: Readonly<Record<string, unknown>>,
  ): TaskFuture<unknown> {
    this.#requireOpen();
    const future = this.#newFuture();
    try {
      this.#batches.add(this.#functionId(fn), packJsonArguments(args, kwargs), future);
    } catch (error) {
      future.reject(ensureError(error)); // arguments that JSON cannot express, or a function without source
    }
    return future;
  }

  #requireOpen(): void {
    if (this.#closing) throw new TerminalError('CONFLICT', 'The executor is closed; create a new one for further calls.');
  }

  #newFuture(): TaskFuture<unknown> {
    return new TaskFuture<unknown>((self) => this.#cancel(self));
  }

  async #cancel(future: TaskFuture<unknown>): Promise<boolean> {
    if (this.#batches.withdraw(future)) {
      future.drop();
      return true;
    }
    const taskId = await future.taskId.catch(() => undefined); // the call was refused, so there is nothing to cancel
    if (taskId === undefined) return false;
    const cancel = this.#client.cancelTask(taskId);
    this.#cancels.add(cancel); // `close` waits for the response
    return cancel.finally(() => this.#cancels.delete(cancel));
  }

  #functionId(fn: AnyFunction | Callable<unknown>): Promise<string> {
    if (typeof fn === 'string') return Promise.resolve(fn);
    let key = typeof fn === 'function' ? this.#keys.get(fn) : undefined;
    const source = typeof fn === 'function' ? (key === undefined ? javascript(fn) : undefined) : fn;
    if (key === undefined && source) {
      key = createHash('sha256')
        .update(JSON.stringify([source.language, source.name, source.source]))
        .digest('base64');
      if (typeof fn === 'function') this.#keys.set(fn, key);
    }
    const known = this.#functionIds.get(key ?? '');
    if (known) return known;
    const id = this.#client.registerFunction(fn);
    this.#functionIds.set(key ?? '', id);
    id.catch(() => this.#functionIds.delete(key ?? '')); // waiting calls get the error; the next call retries
    return id;
  }

  #onAccepted(taskId: string, future: TaskFuture<unknown>): void {
    future.accept(taskId);
    this.#open.set(taskId, future);
    const early = this.#early.get(taskId);
    if (early) {
      this.#early.delete(taskId);
      this.#onResult(early);
    } else {
      this.#listen(this.taskGroupId);
    }
  }

  get #readsQueue(): boolean {
    return ['auto', 'amqp'].includes(this.#options.transport ?? 'auto');
  }

  /** Starts to listen to a group. Call it after the first task is accepted: the group and its queue do not exist before. */
  #listen(taskGroupId: string): GroupListener {
    const known = this.#listeners.get(taskGroupId);
    if (known) return known;
    const listener = new GroupListener({
      client: this.#client,
      taskGroupId,
      transport: this.#options.transport ?? 'auto',
      onResult: (result) => this.#onResult(result),
    });
    this.#listeners.set(taskGroupId, listener);
    listener.start();
    return listener;
  }

  #onResult(delivered: DeliveredResult): void {
    const { taskId } = delivered;
    const future = this.#open.get(taskId);
    if (!future) {
      // A repeated result, a result of another submitter, or a result that arrived before the response to its request.
      if (this.#batches.hasOpenRequests) this.#early.set(taskId, delivered);
      else this.#early.clear();
      return;
    }
    this.#open.delete(taskId);
    if (delivered.result === undefined) {
      future.reject(taskErrorOf(taskId, delivered.errorCode, delivered.exception ?? 'The task failed without saying why.'));
    } else {
      try {
        future.resolve(valueOf(delivered.result, this.#client));
      } catch (error) {
        const { message } = ensureError(error);
        const code = error instanceof TerminalError ? error.code : 'INTERNAL';
        future.reject(new TerminalError(code, `Cannot read the result of task ${taskId}. ${message}`, { cause: error }));
      }
    }
    if (this.#open.size === 0) this.#tellSettled();
  }

  async #settled(): Promise<void> {
    while (this.#open.size > 0) await new Promise<void>((resolve) => this.#whenSettled.add(resolve));
  }

  #tellSettled(): void {
    for (const resolve of this.#whenSettled) resolve();
    this.#whenSettled.clear();
  }
}

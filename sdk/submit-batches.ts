import { ensureError } from '../contracts/errors';

import type { Client, SubmitOptions } from './client';
import type { TaskFuture } from './future';

/** Combines calls, in order, into requests. An unregistrable function fails its calls only; a refused request fails all. */

export interface PendingCall {
  functionId: Promise<string>;
  payload: string;
  future: TaskFuture<unknown>;
}

export interface BatchOptions {
  endpointId: string;
  submit: SubmitOptions;
  maxCalls: number;
  /** How long the first call of a request waits for more calls, in milliseconds. */
  delayMs: number;
  /** Called for each accepted call, before the next call is processed. */
  onAccepted: (taskId: string, future: TaskFuture<unknown>) => void;
}

/** Well below the service's limit of 64 MiB for a request. */
const MAX_CHARS = 8 * 1024 * 1024;
/** Maximum number of concurrent requests. Further requests wait. */
const MAX_REQUESTS = 4;

export class SubmitBatches {
  #calls: PendingCall[] = [];
  #chars = 0;
  #timer: NodeJS.Timeout | undefined;
  readonly #full: PendingCall[][] = [];
  readonly #requests = new Set<Promise<void>>();

  constructor(
    private readonly client: Client,
    private readonly options: BatchOptions,
  ) {}

  /** True while requests are pending: results may arrive for tasks whose IDs are not known yet. */
  get hasOpenRequests(): boolean {
    return this.#requests.size > 0;
  }

  add(functionId: Promise<string>, payload: string, future: TaskFuture<unknown>): void {
    this.#calls.push({ functionId, payload, future });
    this.#chars += payload.length;
    if (this.#calls.length >= this.options.maxCalls || this.#chars >= MAX_CHARS) this.flush();
    else this.#timer ??= setTimeout(() => this.flush(), this.options.delayMs);
  }

  /** Removes a call that was not sent yet. Returns false if the call was already sent. */
  withdraw(future: TaskFuture<unknown>): boolean {
    for (const calls of [this.#calls, ...this.#full]) {
      const at = calls.findIndex((call) => call.future === future);
      if (at >= 0) {
        calls.splice(at, 1);
        return true;
      }
    }
    return false;
  }

  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#calls.length > 0) this.#full.push(this.#calls);
    this.#calls = [];
    this.#chars = 0;
    this.#sendNext();
  }

  /** Resolves when every call was accepted or refused. */
  async drain(): Promise<void> {
    this.flush();
    while (this.#requests.size > 0) await Promise.all(this.#requests);
  }

  #sendNext(): void {
    while (this.#requests.size < MAX_REQUESTS) {
      const calls = this.#full.shift();
      if (!calls) return;
      const request = this.#send(calls).finally(() => {
        this.#requests.delete(request);
        this.#sendNext();
      });
      this.#requests.add(request);
    }
  }

  /** Never rejects: errors go to the futures of the calls. */
  async #send(calls: readonly PendingCall[]): Promise<void> {
    const ready: { functionId: string; payload: string; future: TaskFuture<unknown> }[] = [];
    for (const call of calls) {
      try {
        ready.push({ ...call, functionId: await call.functionId });
      } catch (error) {
        call.future.reject(ensureError(error));
      }
    }
    if (ready.length === 0) return;
    try {
      const { taskIds } = await this.client.submitPacked(this.options.endpointId, ready, this.options.submit);
      ready.forEach(({ future }, index) => this.options.onAccepted(taskIds[index] ?? '', future));
    } catch (error) {
      for (const { future } of ready) future.reject(ensureError(error));
    }
  }
}

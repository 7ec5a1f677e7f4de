import { TaskCancelledError } from './errors';

/**
 * A pending result: a promise with a task ID and a way to cancel the call. It settles once, even if a result is delivered twice.
 * Like a Python future, it keeps its error until it is awaited, so an unhandled failure does not end the process.
 *
 * States: `open` -resolve-> `done`, -reject-> `done`.
 */
export class TaskFuture<Result> implements Promise<Result> {
  readonly [Symbol.toStringTag] = 'TaskFuture';
  /** Resolves when the service accepts the call; rejects if the call is refused or never sent. */
  readonly taskId: Promise<string>;
  readonly #outcome: Promise<Result>;
  readonly #settlers: FutureSettlers<Result>;
  #isDone = false;

  constructor(private readonly canceller: (future: TaskFuture<Result>) => Promise<boolean>) {
    const settlers: Partial<FutureSettlers<Result>> = {};
    this.taskId = new Promise((resolve, reject) => {
      settlers.accept = resolve;
      settlers.refuse = reject;
    });
    this.#outcome = new Promise((resolve, reject) => {
      settlers.resolve = resolve;
      settlers.reject = reject;
    });
    this.#settlers = settlers as FutureSettlers<Result>; // promise executors run synchronously
    this.taskId.catch(() => undefined);
    this.#outcome.catch(() => undefined);
  }

  /** True when the future has settled. */
  get isDone(): boolean {
    return this.#isDone;
  }

  /**
   * Cancels the call. A call that was not dispatched never runs; an agent of this project stops a running call. Returns true if
   * the call had no answer yet. The future then rejects with a {@link TaskCancelledError}, unless a result arrives first.
   */
  async cancel(): Promise<boolean> {
    return this.#isDone ? false : this.canceller(this);
  }

  then<A = Result, B = never>(
    onFulfilled?: ((value: Result) => A | PromiseLike<A>) | null,
    onRejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.#outcome.then(onFulfilled, onRejected);
  }

  catch<B = never>(onRejected?: ((reason: unknown) => B | PromiseLike<B>) | null): Promise<Result | B> {
    return this.#outcome.catch(onRejected);
  }

  finally(onFinally?: (() => void) | null): Promise<Result> {
    return this.#outcome.finally(onFinally);
  }

  /** For the executor: the service has accepted the call. */
  accept(taskId: string): void {
    this.#settlers.accept(taskId);
  }

  /** For the executor. Later calls have no effect. */
  resolve(value: Result): void {
    this.#isDone = true;
    this.#settlers.resolve(value);
  }

  /** For the executor. Later calls have no effect. */
  reject(error: Error): void {
    this.#isDone = true;
    this.#settlers.refuse(error); // no effect if the ID is known
    this.#settlers.reject(error);
  }

  /** For the executor: the call was never sent. */
  drop(): void {
    this.reject(new TaskCancelledError('', 'The call was cancelled before it was sent.'));
  }
}

interface FutureSettlers<Result> {
  accept(taskId: string): void;
  refuse(error: Error): void;
  resolve(value: Result): void;
  reject(error: Error): void;
}

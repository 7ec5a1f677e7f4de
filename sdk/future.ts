import { TaskCancelledError } from './errors';

/**
 * A result that is on its way: a promise with a task id that can be cancelled. It settles once, whatever is delivered twice.
 * Like a Python future it keeps its error until somebody asks for it: a future that nobody awaits ends no process.
 *
 * States: `open` -resolve-> `done`, -reject-> `done`.
 */
export class TaskFuture<Result> implements Promise<Result> {
  readonly [Symbol.toStringTag] = 'TaskFuture';
  /** Known once the service has accepted the call; rejects when it was not. */
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
    this.#settlers = settlers as FutureSettlers<Result>; // promise executors run at once
    this.taskId.catch(() => undefined);
    this.#outcome.catch(() => undefined);
  }

  /** True when the result or the error is there. */
  get isDone(): boolean {
    return this.#isDone;
  }

  /**
   * Asks for the end of the call: before it is dispatched it never runs, on an agent of ours it is stopped. True when it had
   * no answer yet; the future then rejects with a {@link TaskCancelledError}, unless a result was faster.
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

  /** Of the executor: the service has accepted the call. */
  accept(taskId: string): void {
    this.#settlers.accept(taskId);
  }

  /** Of the executor. Later calls do nothing. */
  resolve(value: Result): void {
    this.#isDone = true;
    this.#settlers.resolve(value);
  }

  /** Of the executor. Later calls do nothing. */
  reject(error: Error): void {
    this.#isDone = true;
    this.#settlers.refuse(error); // does nothing when the id is known
    this.#settlers.reject(error);
  }

  /** Of the executor: a call that was never sent. */
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

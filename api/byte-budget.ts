/** Bounds the bytes that the process holds for some purpose. Requests that do not fit wait, in the order of arrival. */
export class ByteBudget {
  #held = 0;
  /** First in, first out: small amounts must not delay a large amount forever. */
  readonly #queue: { bytes: number; admit: () => void }[] = [];

  constructor(private readonly limitBytes: number) {}

  /**
   * Calls `onAdmitted(release)`, immediately or later; `release` gives the bytes back. An amount above the limit is admitted when
   * nothing else is held. Returns a function that withdraws the request if it still waits.
   */
  request(bytes: number, onAdmitted: (release: () => void) => void): () => void {
    const admit = (): void => {
      this.#held += bytes;
      let isHeld = true;
      onAdmitted(() => {
        if (!isHeld) return;
        isHeld = false;
        this.#held -= bytes;
        this.#admitNext();
      });
    };
    if (this.#queue.length === 0 && this.#fits(bytes)) {
      admit();
      return () => undefined;
    }
    const entry = { bytes, admit };
    this.#queue.push(entry);
    return () => {
      const at = this.#queue.indexOf(entry);
      if (at < 0) return;
      this.#queue.splice(at, 1);
      this.#admitNext();
    };
  }

  #fits(bytes: number): boolean {
    return this.#held === 0 || this.#held + bytes <= this.limitBytes;
  }

  #admitNext(): void {
    for (let next = this.#queue[0]; next && this.#fits(next.bytes); next = this.#queue[0]) {
      this.#queue.shift();
      next.admit();
    }
  }
}

/**
 * Resolves with the function that gives the bytes back, or with undefined if the bytes were not free in time or `signal` was
 * aborted first.
 */
export async function takeWithin(
  budget: ByteBudget,
  bytes: number,
  maxWaitMs: number,
  signal: AbortSignal,
): Promise<(() => void) | undefined> {
  if (signal.aborted) return undefined;
  return new Promise((resolve) => {
    const done = (release: (() => void) | undefined): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', giveUp);
      resolve(release);
    };
    const giveUp = (): void => {
      withdraw();
      done(undefined);
    };
    const timer = setTimeout(giveUp, maxWaitMs);
    signal.addEventListener('abort', giveUp);
    const withdraw = budget.request(bytes, done);
  });
}

/** Bounds the bytes that the process holds for some purpose. Who does not fit waits, in the order of arrival. */
export class ByteBudget {
  #held = 0;
  /** In order: large amounts are not overtaken for ever by small ones. */
  readonly #queue: { bytes: number; admit: () => void }[] = [];

  constructor(private readonly limitBytes: number) {}

  /**
   * Calls `onAdmitted` with the function that gives the bytes back, now or later; an amount above the limit is admitted
   * when nothing else is held. Returns the function that ends the waiting.
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

/** Resolves with the function that gives the bytes back, or with undefined when they were not free in time or `signal` is aborted. */
export async function takeWithin(
  budget: ByteBudget,
  bytes: number,
  maxWaitMs: number,
  signal: AbortSignal,
): Promise<(() => void) | undefined> {
  return new Promise((resolve) => {
    const giveUp = (): void => {
      leave();
      done(undefined);
    };
    const timer = setTimeout(giveUp, maxWaitMs);
    const done = (release: (() => void) | undefined): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', giveUp);
      resolve(release);
    };
    signal.addEventListener('abort', giveUp);
    const leave = budget.request(bytes, done);
  });
}

interface Waiting {
  bytes: number;
  holder: string;
  admit: () => void;
}

/**
 * Bounds the bytes that the process holds for some purpose, and the share of one holder. Requests that do not fit wait, in the
 * order of arrival. A request that waits for the share of its holder delays only this holder.
 */
export class ByteBudget {
  #held = 0;
  readonly #heldBy = new Map<string, number>();
  /** First in, first out: small amounts must not delay a large amount forever. */
  readonly #queue = new Set<Waiting>();

  constructor(
    private readonly limitBytes: number,
    private readonly shareBytes = limitBytes,
  ) {}

  /**
   * Calls `onAdmitted(release)`, immediately or later; `release` gives the bytes back, except for those that are still needed. An
   * amount above a limit is admitted when nothing else is held. Returns a function that withdraws the request if it still waits.
   */
  request(bytes: number, onAdmitted: (release: (needed?: number) => void) => void, holder = ''): () => void {
    const admit = (): void => {
      this.#add(holder, bytes);
      let held = bytes;
      onAdmitted((needed = 0) => {
        if (needed >= held) return;
        this.#add(holder, needed - held);
        held = needed;
        this.#admitNext();
      });
    };
    const entry = { bytes, holder, admit };
    this.#queue.add(entry);
    this.#admitNext();
    return () => {
      if (this.#queue.delete(entry)) this.#admitNext();
    };
  }

  /** True while an amount waits for the bytes of others, and not only for the share of its holder. */
  get isCrowded(): boolean {
    for (const { bytes, holder } of this.#queue) {
      if (fits(this.#heldBy.get(holder) ?? 0, bytes, this.shareBytes)) return true;
    }
    return false;
  }

  #add(holder: string, bytes: number): void {
    this.#held += bytes;
    const left = (this.#heldBy.get(holder) ?? 0) + bytes;
    if (left === 0) this.#heldBy.delete(holder);
    else this.#heldBy.set(holder, left);
  }

  /** Admits all that fit, until one must wait for the bytes of others. */
  #admitNext(): void {
    const waitingHolders = new Set<string>();
    for (const entry of this.#queue) {
      const { bytes, holder } = entry;
      if (waitingHolders.has(holder)) continue;
      if (!fits(this.#heldBy.get(holder) ?? 0, bytes, this.shareBytes)) {
        waitingHolders.add(holder);
        continue;
      }
      if (!fits(this.#held, bytes, this.limitBytes)) return;
      this.#queue.delete(entry);
      entry.admit();
    }
  }
}

const fits = (held: number, bytes: number, limit: number): boolean => held === 0 || held + bytes <= limit;

/** Resolves with the function that gives the bytes back; undefined if they came too late or `signal` was aborted first. */
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

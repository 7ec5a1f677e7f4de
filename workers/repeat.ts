export interface Repeating {
  /** Starts no further run and waits for the current one. */
  close(): Promise<void>;
}

/** Runs `work` every `everyMs`, never twice at the same time. A failure goes to `onError`, and the next run follows. */
export function repeat(everyMs: number, work: () => Promise<void>, onError: (error: unknown) => void): Repeating {
  let current: Promise<void> | undefined;
  const timer = setInterval(() => {
    current ??= work()
      .catch(onError)
      .finally(() => (current = undefined));
  }, everyMs);
  return {
    async close() {
      clearInterval(timer);
      await current;
    },
  };
}

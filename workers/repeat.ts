export interface Repeating {
  /** Starts no further run and waits for the current one. */
  close(): Promise<void>;
}

/** Runs `work` every `everyMs`, never twice at the same time. A failure is passed to `onError`, and the runs continue. */
export function repeat(everyMs: number, work: () => Promise<unknown>, onError: (error: unknown) => void): Repeating {
  let current: Promise<unknown> | undefined;
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

/**
 * Limits `send` to one call per key and `gapMs`. A request joins a scheduled call. A request that arrives while a call is in
 * progress gets the next call, because the call in progress may have read older state.
 */
export function paced<T>(gapMs: number, send: (key: string) => Promise<T>): (key: string) => Promise<T> {
  const lastMs = new Map<string, number>();
  const due = new Map<string, Promise<T>>();

  async function sendDue(key: string, waitMs: number): Promise<T> {
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
    due.delete(key);
    const sentMs = Date.now();
    lastMs.set(key, sentMs);
    setTimeout(() => {
      if (lastMs.get(key) === sentMs) lastMs.delete(key);
    }, gapMs).unref();
    return send(key);
  }

  return (key) => {
    const joined = due.get(key);
    if (joined) return joined;
    const waitMs = (lastMs.get(key) ?? -Infinity) + gapMs - Date.now();
    const sending = sendDue(key, waitMs);
    if (waitMs > 0) due.set(key, sending);
    return sending;
  };
}

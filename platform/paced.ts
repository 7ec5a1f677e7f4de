/**
 * Sends for a key at most once in `gapMs`, however often it is asked to. What is asked for while a sending is due joins it;
 * what is asked for while one is under way gets the next one, because that one may have been too early for it.
 */
export function paced(gapMs: number, send: (key: string) => Promise<void>): (key: string) => Promise<void> {
  const lastMs = new Map<string, number>();
  const due = new Map<string, Promise<void>>();

  async function sendDue(key: string, waitMs: number): Promise<void> {
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
    due.delete(key);
    const sentMs = Date.now();
    lastMs.set(key, sentMs);
    setTimeout(() => {
      if (lastMs.get(key) === sentMs) lastMs.delete(key);
    }, gapMs).unref();
    await send(key);
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

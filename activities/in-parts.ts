/**
 * Longer than the confirms of a batch usually take, so that a batch without a slow queue is one part. A shorter time would split
 * it, and each part costs a statement.
 */
const GATHER_MS = 50;

/**
 * Handles items that become ready one by one, in few parts: a part is handled GATHER_MS after its first item, or with the last
 * item of all. So a slow item delays no other. Rejects with the first failure, but only when every part was handled.
 */
export async function inParts<T>(items: readonly Promise<T>[], handle: (part: readonly T[]) => Promise<void>): Promise<void> {
  const parts: Promise<void>[] = [];
  let missing = items.length;
  let part: T[] = [];
  let timer: NodeJS.Timeout | undefined;

  function handlePart(): void {
    clearTimeout(timer);
    timer = undefined;
    const handling = handle(part);
    handling.catch(() => undefined); // reported below, when every part was handled
    parts.push(handling);
    part = [];
  }

  await Promise.all(
    items.map(async (item) => {
      const ready = await item; // `part` may change meanwhile
      part.push(ready);
      if (--missing === 0) handlePart();
      else timer ??= setTimeout(handlePart, GATHER_MS);
    }),
  );
  await Promise.allSettled(parts);
  await Promise.all(parts);
}

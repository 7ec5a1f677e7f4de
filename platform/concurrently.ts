/** Runs `work` for every item, at most `limit` at the same time. Rejects at the first failure and starts no further items. */
export async function concurrently<T>(limit: number, items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const rest = items.values();
  let hasFailed = false;
  await Promise.all(
    Array.from({ length: limit }, async () => {
      for (const item of rest) {
        if (hasFailed) return;
        try {
          await work(item);
        } catch (error) {
          hasFailed = true;
          throw error;
        }
      }
    }),
  );
}

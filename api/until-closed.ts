import type { Response } from 'express';

/** A signal that aborts when the client disconnects, its identity is revoked or the process stops. Call `release` when done. */
export function untilClosed(
  res: Response,
  stopping: AbortSignal,
  watchRevocation: (end: () => void) => () => void,
): { signal: AbortSignal; release(): void } {
  const controller = new AbortController();
  const abort = (): void => controller.abort();
  const unwatch = watchRevocation(abort);
  res.once('close', abort);
  stopping.addEventListener('abort', abort, { once: true });
  if (stopping.aborted) abort();
  return {
    signal: controller.signal,
    release: () => {
      unwatch();
      res.off('close', abort);
      stopping.removeEventListener('abort', abort);
    },
  };
}

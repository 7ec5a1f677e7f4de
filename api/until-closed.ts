import type { Response } from 'express';

/** A signal that aborts when the client disconnects or the process stops. Call `release` when done. */
export function untilClosed(res: Response, stopping: AbortSignal): { signal: AbortSignal; release(): void } {
  const controller = new AbortController();
  const abort = (): void => controller.abort();
  res.once('close', abort);
  stopping.addEventListener('abort', abort, { once: true });
  if (stopping.aborted) abort();
  return {
    signal: controller.signal,
    release: () => {
      res.off('close', abort);
      stopping.removeEventListener('abort', abort);
    },
  };
}

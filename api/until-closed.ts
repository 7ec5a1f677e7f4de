import type { Response } from 'express';

/** A signal that aborts when the client went away or the process stops; `release` when it is no longer of interest. */
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

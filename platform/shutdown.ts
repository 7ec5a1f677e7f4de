import type { Logger } from './log';
import { isReplica, untilSuccessorServes } from './replicas';

/** The deadline for all steps together, without `extraMs`. */
const DEADLINE_MS = 25_000;

/**
 * Runs the steps in order on SIGTERM or SIGINT, then exits. One deadline covers all steps; `extraMs` extends it. A replica serves
 * until its successor serves. It ignores SIGINT, which a terminal sends to every process: its supervisor handles the signal.
 */
export function onStopSignal(
  log: Logger,
  steps: readonly { name: string; run: (signal: 'SIGTERM' | 'SIGINT') => Promise<unknown> }[],
  extraMs = 0,
): void {
  const deadlineMs = DEADLINE_MS + extraMs;
  let isStopping = false;
  const stop = (signal: 'SIGTERM' | 'SIGINT'): void => {
    if (isStopping) return;
    isStopping = true;
    log.info({ signal }, 'stopping');
    void (async () => {
      await untilSuccessorServes();
      setTimeout(() => {
        log.error({ deadlineMs }, 'the shutdown deadline passed');
        process.exit(1);
      }, deadlineMs).unref();
      for (const { name, run } of steps) {
        try {
          await run(signal);
        } catch (error) {
          log.warn({ err: error, step: name }, 'a shutdown step failed');
        }
      }
      log.info('stopped');
      process.exit(0);
    })();
  };
  process.on('SIGTERM', () => stop('SIGTERM'));
  process.on('SIGINT', () => {
    if (!isReplica()) stop('SIGINT');
  });
}

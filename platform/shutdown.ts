import type { Logger } from './log';

/**
 * Runs the steps of a stop in order, each with the same final deadline, then exits. SIGTERM may mean that a successor
 * starts, SIGINT that nobody follows.
 */
export function onStopSignal(
  log: Logger,
  steps: readonly { name: string; run: (signal: 'SIGTERM' | 'SIGINT') => Promise<unknown> }[],
  deadlineMs = 25_000,
): void {
  let isStopping = false;
  const stop = (signal: 'SIGTERM' | 'SIGINT'): void => {
    if (isStopping) return;
    isStopping = true;
    log.info({ signal }, 'stopping');
    setTimeout(() => {
      log.error({ deadlineMs }, 'did not stop in time');
      process.exit(1);
    }, deadlineMs).unref();
    void (async () => {
      for (const { name, run } of steps) {
        try {
          await run(signal);
        } catch (error) {
          log.warn({ err: error, step: name }, 'a step of the stop failed');
        }
      }
      log.info('stopped');
      process.exit(0);
    })();
  };
  process.on('SIGTERM', () => stop('SIGTERM'));
  process.on('SIGINT', () => stop('SIGINT'));
}

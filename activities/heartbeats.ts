import { Context } from '@temporalio/activity';

/** Well below the shortest heartbeat timeout, 1.5 s. */
const HEARTBEAT_MS = 500;

/**
 * Sends heartbeats while the current activity runs `work`, so that another process soon takes over if this process is killed. The
 * timer is independent of the work, which may wait as long as the message broker is blocked.
 */
export async function withHeartbeats<T>(work: () => Promise<T>): Promise<T> {
  const context = Context.current();
  if (context.info.isLocal) return work(); // a local activity ends with its workflow task
  const timer = setInterval(() => context.heartbeat(), HEARTBEAT_MS);
  try {
    return await work();
  } finally {
    clearInterval(timer);
  }
}

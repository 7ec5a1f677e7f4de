import type { ActivityDeps } from '../activities';
import { endTasks } from '../activities/complete';
import type { Broker } from '../broker';
import { QUEUE, taskQueueName } from '../contracts/names';
import { lostAttempts } from '../platform/metrics';
import { listUnheld, requeueLost } from '../platform/store/presence';

/**
 * The loss detector: an attempt that its agent does not name in a heartbeat, and that rests in no queue, is gone. The
 * broker's acknowledgement proves nothing, so nothing else may be believed.
 */

/** An attempt younger than this many periods may be on its way to the agent. */
const MIN_PERIODS = 2;
const MIN_AGE_MS = 4_000;
const MAX_AT_ONCE = 1_000;

export async function detectLosses(
  broker: Broker,
  deps: ActivityDeps,
  beat: { taskQueueId: string; held: readonly string[]; periodS: number },
): Promise<void> {
  const minAgeMs = Math.max(beat.periodS * 1_000 * MIN_PERIODS, MIN_AGE_MS);
  const held = beat.held.map((name) => name.slice(0, 36));
  const unheld = await listUnheld(deps.db, beat.taskQueueId, held, minAgeMs, MAX_AT_ONCE);
  if (unheld.length === 0) return;
  // Still in the endpoint's queue, or answered and waiting in ours: not lost.
  if ((await depth(broker, taskQueueName(beat.taskQueueId))) > 0 || (await depth(broker, QUEUE.results)) > 0) return;

  const outcome = await requeueLost(
    deps.db,
    unheld.map((attempt) => attempt.id),
    deps.config.FUNCX_MAX_INFRASTRUCTURE_RETRIES,
  );
  const final = outcome.filter((attempt) => attempt.isFinal);
  lostAttempts.inc({ outcome: 'requeued' }, outcome.length - final.length);
  lostAttempts.inc({ outcome: 'failed' }, final.length);
  deps.log.warn(
    { taskQueueId: beat.taskQueueId, requeued: outcome.length - final.length, failed: final.length },
    'attempts were lost',
  );
  await endTasks(
    deps,
    beat.taskQueueId,
    final.map(({ id, attempt }) => ({ id, attempt, state: 'waiting' })),
    {
      state: 'failed',
      code: 'AgentLost',
      text: `The agent of endpoint ${beat.taskQueueId} lost this task ${deps.config.FUNCX_MAX_INFRASTRUCTURE_RETRIES + 1} times.`,
    },
  );
}

/** Messages ready in a queue; a queue that does not exist holds none. */
async function depth(broker: Broker, queue: string): Promise<number> {
  return broker.withChannel(async (model) => {
    const channel = await model.createChannel();
    channel.on('error', () => undefined); // a missing queue closes the channel; the check rejects as well
    try {
      const { messageCount } = await channel.checkQueue(queue);
      await channel.close();
      return messageCount;
    } catch (error) {
      if (error instanceof Error && /NOT_FOUND/.test(error.message)) return 0;
      throw error;
    }
  });
}

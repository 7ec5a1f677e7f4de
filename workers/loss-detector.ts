import type { ActivityDeps } from '../activities';
import { requeueLostAttempts } from '../activities/lost-attempts';
import { BrokerRefusal, isSurelyEmpty, type Broker } from '../broker';
import { QUEUE, tasksQueueName } from '../contracts/names';
import { listSuspects, noteMissing, oldestDispatchMs, type Suspect } from '../platform/store/presence';
import type { ResultsInHand } from './results-in-hand';

/**
 * Finds lost attempts: an attempt is lost when its agent's heartbeats do not name it and no queue holds it. An acknowledgement
 * proves nothing, because agents acknowledge early. The first such heartbeat only marks the attempt as missing: a process of the
 * service that waits for the store may hold its result.
 */

/** The minimum age, in heartbeat periods: a younger attempt may be on its way to the agent. */
const MIN_PERIODS = 2;
const MIN_AGE_MS = 4_000;
const BATCH_LIMIT = 1_000;
const MAX_LOGGED = 20;
/** How long an attempt must be missing to count as lost, if another incarnation of the agent has started since the dispatch. */
const CONFIRM_PERIODS = 1.5;
const MIN_CONFIRM_MS = 3_000;
/**
 * The minimum if the same incarnation of the agent still runs. The attempt is then most likely not sent yet: the process that
 * claimed it died or hangs, and Temporal retries its activity up to 20 s later.
 */
const MIN_CONFIRM_SAME_AGENT_MS = 30_000;
/** Queues are first in, first out: an attempt dispatched this much earlier than one that the agent holds has left the queue. */
const PASSED_BY_MS = 2_000;

export async function detectLosses(
  broker: Broker,
  deps: ActivityDeps,
  inHand: Pick<ResultsInHand, 'has'>,
  beat: { endpointQueueId: string; held: readonly string[]; periodS: number },
): Promise<void> {
  const minAgeMs = Math.max(beat.periodS * 1_000 * MIN_PERIODS, MIN_AGE_MS);
  const held = beat.held.map((name) => name.slice(0, 36));
  const suspects = await listSuspects(deps.db, beat.endpointQueueId, held, minAgeMs, BATCH_LIMIT);
  if (suspects.length === 0) return;
  const found = suspects.filter((suspect) => suspect.isHeld);
  const gone = await findInNoQueue(
    broker,
    deps,
    beat.endpointQueueId,
    held,
    suspects.filter((suspect) => !suspect.isHeld && !inHand.has(suspect.id)),
  );
  if (gone.length > 0) {
    const told = gone.slice(0, MAX_LOGGED).map(({ id, ageMs, missingMs }) => ({ id, ageMs, missingMs }));
    deps.log.debug({ endpointQueueId: beat.endpointQueueId, missing: gone.length, attempts: told }, 'attempts are missing');
  }
  await noteMissing(
    deps.db,
    gone.filter((suspect) => suspect.missingMs === null).map((suspect) => suspect.id),
    found.map((suspect) => suspect.id),
  );
  const confirmMs = beat.periodS * 1_000 * CONFIRM_PERIODS;
  const lost = gone.filter(({ missingMs, hasSameAgent }) => {
    return (missingMs ?? 0) >= Math.max(confirmMs, hasSameAgent ? MIN_CONFIRM_SAME_AGENT_MS : MIN_CONFIRM_MS);
  });
  await requeueLostAttempts(deps, beat.endpointQueueId, lost, {
    log: 'attempts were lost',
    describeLoss: (losses) => `The agent of endpoint ${beat.endpointQueueId} lost this task ${losses} times.`,
  });
}

/** Suspects that are not in the endpoint's queue of tasks, and whose result is not in the queue of results. */
async function findInNoQueue(
  broker: Broker,
  deps: ActivityDeps,
  endpointQueueId: string,
  held: readonly string[],
  suspects: readonly Suspect[],
): Promise<Suspect[]> {
  if (suspects.length === 0 || !(await holdsNothing(broker, QUEUE.results))) return [];
  if (await holdsNothing(broker, tasksQueueName(endpointQueueId))) return [...suspects];
  const oldestHeldMs = await oldestDispatchMs(deps.db, endpointQueueId, held);
  return oldestHeldMs === undefined ? [] : suspects.filter((suspect) => suspect.ageMs > oldestHeldMs + PASSED_BY_MS);
}

/** A queue that does not exist holds nothing. */
async function holdsNothing(broker: Broker, queue: string): Promise<boolean> {
  try {
    return isSurelyEmpty(await broker.withChannel((channel) => channel.checkQueue(queue)));
  } catch (error) {
    if (error instanceof BrokerRefusal && error.isMissing) return true;
    throw error;
  }
}

import type { StockQueues } from '../platform/broker-topology';
import { withAuthority } from '../platform/broker-urls';
import type { EndpointUsers } from '../platform/endpoint-users';
import { describeName, IDENTITY_PROVIDER } from '../platform/identities';
import {
  clearStartRefused,
  listWaitingUserEndpoints,
  listGoneWithTasks,
  listInHand,
  listOpenOfQueue,
  noteStartRefused,
  takeStartTurn,
  type StartFacts,
} from '../platform/store/user-endpoints';
import { commandQueueName, EXCHANGE, QUEUE, resultKey, statusKey, tasksQueueName } from '../contracts/names';
import { endTasks } from './complete';
import type { ActivityDeps } from './deps';
import { requeueLostAttempts } from './lost-attempts';

/**
 * User endpoints of stock core endpoints: started by a command when tasks wait for them, started again when they are gone,
 * and what they held is dispatched again (protocol/globus-compute-4, sections 9 and 10). A stock agent does not say what
 * it holds, so a process that is gone, or was replaced, counts as having lost everything that has no answer.
 */

export interface UserEndpointDeps extends ActivityDeps {
  queues: StockQueues;
  users: EndpointUsers;
  /** PEM of the broker's private authority, if there is one. */
  authority: string | undefined;
}

export interface UserEndpoints {
  /** Sends a start command if the core endpoint is online. Cheap where one was sent a moment ago. */
  wake(endpointQueueId: string): Promise<void>;
  /** A start failed: its open tasks fail with the endpoint's own words, unless the reason passes by itself. */
  onStartFailure(endpointQueueId: string, text: string): Promise<void>;
  /** It reports: what kept it from starting is over. */
  onAlive(endpointQueueId: string): Promise<void>;
  /** Its process is another one than before: what the earlier one held is lost. */
  onReplaced(endpointQueueId: string): Promise<void>;
  /** Looks after those that are gone while tasks wait. Safe in several processes at once. */
  tend(): Promise<void>;
}

/**
 * A command for a running user endpoint keeps it from ending idle within its grace of 30 s, so one every 5 s is plenty.
 * One that does not run yet is told again sooner: a command may have met the very end of the process before.
 */
const WAKE_PAUSE_S = { online: 5, offline: 2 };
/** A start takes seconds, on a loaded machine many. */
const RETRY_PAUSE_S = { online: 5, offline: 10 };
/** Results of a process that ended may still be on their way. */
const GONE_S = 2;
/** ... and so long as results wait to be stored, some may be of theirs; but not for ever. */
const GONE_LONG_S = 20;
const AT_ONCE = 1_000;
/** The largest window. */
const MAX_IN_HAND = 50_000;

/** After a kill the pid file counts as alive for three heartbeat periods (cli.py of the stock endpoint). */
const STILL_RUNNING = /Another instance of this endpoint is running/;
const STILL_RUNNING_AGAIN_S = 3;
const STILL_RUNNING_LONGEST_S = 600;

export function createUserEndpoints(deps: UserEndpointDeps): UserEndpoints {
  async function wake(endpointQueueId: string, pauseS = WAKE_PAUSE_S): Promise<void> {
    const facts = await takeStartTurn(deps.db, endpointQueueId, pauseS);
    if (!facts) return;
    await deps.queues.declareTasks(endpointQueueId);
    const login = await deps.users.userEndpoint(endpointQueueId, facts.ownerId);
    const command = startCommand(facts, { name: login.name, url: withAuthority(login.url, deps.authority) });
    await deps.publisher.publish('', commandQueueName(facts.endpointId), Buffer.from(JSON.stringify(command)), {
      contentType: 'application/json',
      timestamp: Math.floor(Date.now() / 1000),
    });
  }

  /** Back to waiting what was in hand; after too many losses it fails. */
  async function recover(endpointQueueId: string, why: string): Promise<void> {
    // In this order: what is dispatched after the look is on the queue and stays there.
    await deps.queues.emptyTasks(endpointQueueId);
    const inHand = await listInHand(deps.db, endpointQueueId, MAX_IN_HAND);
    await requeueLostAttempts(deps, endpointQueueId, inHand, {
      log: why,
      describeLoss: (losses) => `The user endpoint that held this task was lost ${losses} times.`,
    });
  }

  return {
    wake: (endpointQueueId) => wake(endpointQueueId),

    async onStartFailure(endpointQueueId, text) {
      if (STILL_RUNNING.test(text)) {
        // The next command may follow when the pause of those that do not run is over but for these seconds.
        const refused = await noteStartRefused(deps.db, endpointQueueId, STILL_RUNNING_AGAIN_S - RETRY_PAUSE_S.offline);
        if (!refused || refused.isOnline || refused.forS < STILL_RUNNING_LONGEST_S) return;
      }
      await deps.queues.emptyTasks(endpointQueueId);
      deps.log.info({ endpointQueueId, text: text.slice(0, 500) }, 'a user endpoint could not start');
      for (;;) {
        const open = await listOpenOfQueue(deps.db, endpointQueueId, AT_ONCE);
        if (open.length === 0) break;
        const ended = await endTasks(deps, endpointQueueId, open, { state: 'failed', code: 'EndpointFailed', text });
        if (ended === 0) break; // somebody else ends them
      }
      await clearStartRefused(deps.db, endpointQueueId);
    },

    onAlive: (endpointQueueId) => clearStartRefused(deps.db, endpointQueueId),

    onReplaced: (endpointQueueId) => recover(endpointQueueId, 'a user endpoint was replaced while it held tasks'),

    async tend() {
      for (const { id, goneS } of await listGoneWithTasks(deps.db, GONE_S)) {
        if (goneS < GONE_LONG_S && (await deps.queues.countResults()) > 0) continue;
        await recover(id, 'a user endpoint is gone that held tasks');
      }
      for (const id of await listWaitingUserEndpoints(deps.db)) await wake(id, RETRY_PAUSE_S);
    },
  };
}

/** Section 9 of the protocol document. */
function startCommand(facts: StartFacts, login: { name: string; url: string }): object {
  const { endpointQueueId, endpointId, ownerId, ownerName } = facts;
  const named = describeName(ownerName);
  const publish = (exchange: string, routingKey: string): object => ({
    exchange,
    routing_key: routingKey,
    mandatory: true,
    properties: { delivery_mode: 2, user_id: login.name },
  });
  return {
    command: 'cmd_start_endpoint',
    globus_effective_identity: ownerId,
    globus_username: named.username,
    globus_identity_set: [
      {
        sub: ownerId,
        id: ownerId,
        ...named,
        organization: 'funcX',
        identity_provider: IDENTITY_PROVIDER.id,
        status: 'used',
      },
    ],
    args: [],
    kwargs: {
      // Stable: results that a process could not send are kept under this name and sent by the next one.
      name: `uep.${endpointId}.${endpointQueueId}`,
      user_opts: facts.config,
      user_runtime: facts.runtime,
      amqp_creds: {
        endpoint_id: endpointQueueId,
        task_queue_info: { connection_url: login.url, queue: tasksQueueName(endpointQueueId) },
        result_queue_info: {
          connection_url: login.url,
          exchange: EXCHANGE.results,
          queue: QUEUE.results,
          queue_publish_kwargs: publish(EXCHANGE.results, resultKey(endpointQueueId)),
        },
        heartbeat_queue_info: {
          connection_url: login.url,
          exchange: EXCHANGE.status,
          queue: QUEUE.status,
          queue_publish_kwargs: publish(EXCHANGE.status, statusKey(endpointQueueId)),
        },
      },
    },
  };
}

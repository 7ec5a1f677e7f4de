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
 * User endpoints of stock core endpoints (globus-compute-endpoint 4.19: `endpoint/core_endpoint.py`). A command starts a user
 * endpoint when tasks wait for it. A stock agent does not report which tasks it holds: when its process vanishes or is replaced,
 * all its attempts in flight count as lost and are dispatched again.
 */

export interface UserEndpointDeps extends ActivityDeps {
  queues: StockQueues;
  users: EndpointUsers;
  /** PEM of the broker's private authority, if there is one. */
  authority: string | undefined;
}

export interface UserEndpoints {
  /** Sends a start command if the core endpoint is online and no command was sent a moment ago. */
  wake(endpointQueueId: string): Promise<void>;
  /** Call when a start failed. Tasks that wait or are in flight fail with the endpoint's text, unless the reason is temporary. */
  onStartFailure(endpointQueueId: string, text: string): Promise<void>;
  onAlive(endpointQueueId: string): Promise<void>;
  /** Call when another process of the user endpoint reports: the attempts of the earlier process are lost. */
  onReplaced(endpointQueueId: string): Promise<void>;
  /** Requeues attempts of vanished user endpoints and starts user endpoints for which tasks wait. Safe in several processes. */
  maintain(): Promise<void>;
}

/**
 * A command postpones the idle shutdown of a running user endpoint by 30 s. A user endpoint that does not run gets the next
 * command sooner: the previous command may have reached a process that was just ending.
 */
const WAKE_PAUSE_S = { online: 5, offline: 2 };
/** A start takes seconds, and longer on a busy machine. */
const RETRY_PAUSE_S = { online: 5, offline: 10 };
/** Results of a process that ended may still arrive. */
const GONE_S = 2;
/** While results wait to be stored, some may be from that process, so it gets this much time. */
const GONE_LONG_S = 20;
const BATCH_LIMIT = 1_000;
/** The largest window. */
const MAX_IN_HAND = 50_000;

/** After a kill, the stock endpoint treats its pid file as alive for three heartbeat periods (its cli.py). */
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

  async function recover(endpointQueueId: string, why: string): Promise<void> {
    // Empty the queue before reading: a task that is dispatched after the read then stays on the queue.
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
        // Back-date the last command so that the next start is allowed after STILL_RUNNING_AGAIN_S.
        const refused = await noteStartRefused(deps.db, endpointQueueId, STILL_RUNNING_AGAIN_S - RETRY_PAUSE_S.offline);
        if (!refused || refused.isOnline || refused.forS < STILL_RUNNING_LONGEST_S) return;
      }
      await deps.queues.emptyTasks(endpointQueueId);
      deps.log.info({ endpointQueueId, text: text.slice(0, 500) }, 'a user endpoint could not start');
      for (;;) {
        const open = await listOpenOfQueue(deps.db, endpointQueueId, BATCH_LIMIT);
        if (open.length === 0) break;
        const ended = await endTasks(deps, endpointQueueId, open, { state: 'failed', code: 'EndpointFailed', text });
        if (ended === 0) break; // another process ends them
      }
      await clearStartRefused(deps.db, endpointQueueId);
    },

    onAlive: (endpointQueueId) => clearStartRefused(deps.db, endpointQueueId),

    onReplaced: (endpointQueueId) => recover(endpointQueueId, 'a user endpoint was replaced while it held tasks'),

    async maintain() {
      for (const { id, goneS } of await listGoneWithTasks(deps.db, GONE_S)) {
        if (goneS < GONE_LONG_S && !(await deps.queues.hasNoResults())) continue;
        await recover(id, 'a user endpoint that held tasks is gone');
      }
      for (const id of await listWaitingUserEndpoints(deps.db)) await wake(id, RETRY_PAUSE_S);
    },
  };
}

/** See section 9 of the protocol document. */
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
      // A stable name: the next process with this name sends the results that the previous process could not send.
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

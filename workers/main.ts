import { randomUUID } from 'node:crypto';

import {
  createCallActivities,
  createEndpointActivities,
  createFlowActivities,
  createScheduleActivities,
  createSubmissionActivities,
  type AcceptingDeps,
  type ActivityDeps,
} from '../activities';
import { createFreePlaces } from '../activities/free-places';
import { createUserEndpoints } from '../activities/user-endpoints';
import { createAccept } from '../accepting/accept';
import { createGroupQueues } from '../accepting/group-queues';
import { createQuotas } from '../accepting/quotas';
import { createPlacement } from '../accepting/placement';
import { createBrokerAdmin } from '../platform/broker-admin';
import { createEndpointQueues, createStockQueues, liftDeliveryLimit } from '../platform/broker-topology';
import { createBrokerUsers } from '../platform/broker-users';
import { readBrokerAuthority, readConfig, withoutSecrets } from '../platform/config';
import { createEndpointUsers } from '../platform/endpoint-users';
import { createFlowStarts } from '../platform/flow-starts';
import { createReadiness } from '../platform/health';
import { createLogger } from '../platform/log';
import { createMissingQueues } from '../platform/missing-queues';
import { createIdentityProvider } from '../platform/oidc/provider';
import { announceServing } from '../platform/replicas';
import { payloadCodecs } from '../platform/payload-codecs';
import { createSchedules } from '../platform/schedules';
import { connectService } from '../platform/service';
import { ensureNexusEndpoint } from '../platform/nexus-endpoint';
import { createIdentities, isAdministrator } from '../platform/identities';
import { onStopSignal } from '../platform/shutdown';
import { listQueuesWithRoom } from '../platform/store/claims';
import { createNotifications, PLACES_CHANNEL } from '../platform/store/notifications';
import { startDeadLetterLoop } from './dead-letters';
import { startFlowSweep } from './flow-sweep';
import { startHealthServer } from './health-server';
import { startMaintenance } from './maintenance';
import { createNexusService } from './nexus-service';
import { startPresenceLoop } from './presence-loop';
import { createResultGuard } from './result-guard';
import { ResultsInHand } from './results-in-hand';
import { startResultLoop } from './result-loop';
import { startTakeover } from './killed-processes';
import { startSweep } from './sweep';
import { startClientUpkeep } from './client-upkeep';
import { createWorker, stopWorker } from '../platform/temporal-workers';

/** Composition root of `workers`: the Temporal workers and the loops that feed activities. Any number may run. */
async function main(): Promise<void> {
  const config = readConfig();
  const log = createLogger('workers', config.LOG_LEVEL);
  log.info({ config: withoutSecrets(config) }, 'starting');
  const processId = randomUUID();
  const service = await connectService('funcx-workers', config, log, { eager: false, processId });
  const { db, broker, publisher, temporal } = service;
  const placeMessages = createNotifications(db, PLACES_CHANNEL, log, (payload) => freePlaces.receive(payload));
  const freePlaces = createFreePlaces({
    listQueuesWithRoom: (queueIds) => listQueuesWithRoom(db, queueIds),
    send: (payload) => placeMessages.send(payload),
    isListening: () => placeMessages.isListening(),
    onError: (error) =>
      log.warn({ err: error }, 'could not read which endpoint queues have free places; trying again at the next poll'),
  });
  const deps: ActivityDeps = {
    config,
    log,
    db,
    publisher,
    isQueueMissing: createMissingQueues(broker),
    temporal,
    onPlacesFreed: freePlaces.note,
  };

  const shared = {
    connection: temporal.connection,
    identity: temporal.identity,
    namespace: config.TEMPORAL_NAMESPACE,
    payloadCodecs: payloadCodecs(config),
  };
  const submissions = await createWorker({
    ...shared,
    taskQueue: config.TEMPORAL_SUBMISSIONS_QUEUE,
    activities: createSubmissionActivities(deps),
    maxCachedWorkflows: 500,
    maxConcurrentActivities: 50,
  });
  const endpoints = await createWorker({
    ...shared,
    taskQueue: config.TEMPORAL_ENDPOINTS_QUEUE,
    activities: createEndpointActivities(deps, freePlaces),
    maxCachedWorkflows: 200,
    maxConcurrentActivities: 1_000, // one pump for each endpoint queue with waiting tasks; a pump mostly sleeps
  });
  const brokerAdmin = createBrokerAdmin({
    managementUrl: config.AMQP_MANAGEMENT_URL,
    amqpUrl: config.AMQP_URL,
    maxConnections: config.FUNCX_MAX_AMQP_CONNECTIONS,
  });
  const userEndpoints = createUserEndpoints({
    ...deps,
    queues: createStockQueues(broker),
    users: createEndpointUsers(db, brokerAdmin, { url: config.AMQP_PUBLIC_URL, key: config.FUNCX_TOKEN_KEY }),
    authority: readBrokerAuthority(config),
  });
  const quotas = createQuotas(db, config);
  const placement = createPlacement(db, userEndpoints, quotas, log);
  const groupQueues = await createGroupQueues(broker, config.FUNCX_RESULT_QUEUE_EXPIRY_S);
  const nexusEndpoint = {
    name: config.TEMPORAL_NEXUS_ENDPOINT,
    namespace: config.TEMPORAL_NAMESPACE,
    taskQueue: config.TEMPORAL_CALLS_QUEUE,
  };
  const hasNexus = await ensureNexusEndpoint(temporal.connection, nexusEndpoint, log);
  const accepting: ActivityDeps & AcceptingDeps = {
    ...deps,
    accept: createAccept({ config, log, db, temporal, groupQueues, quotas }),
    placement,
  };
  const calls = await createWorker({
    ...shared,
    taskQueue: config.TEMPORAL_CALLS_QUEUE,
    // If an author encrypts with another key, the call is refused with a message that names the key.
    payloadCodecs: payloadCodecs(config, { keepUnreadable: true }),
    activities: createCallActivities(accepting),
    nexusServices: hasNexus ? [createNexusService()] : [],
    maxCachedWorkflows: 500,
    maxConcurrentActivities: 50,
  });
  const flows = await createWorker({
    ...shared,
    taskQueue: config.TEMPORAL_FLOWS_QUEUE,
    activities: {
      ...createFlowActivities(accepting),
      ...createScheduleActivities({ db, temporal, quotas, log, schedules: createSchedules(temporal, config) }),
    },
    maxCachedWorkflows: 500,
    maxConcurrentActivities: 50,
  });
  const running = Promise.all([submissions.run(), endpoints.run(), calls.run(), flows.run()]);

  await broker.start();
  const inHand = new ResultsInHand();
  const presence = await startPresenceLoop(broker, deps, userEndpoints, inHand);
  const brokerUsers = createBrokerUsers(db, brokerAdmin, config.AMQP_PUBLIC_URL);
  const results = await startResultLoop(broker, deps, presence.receive, {
    guard: createResultGuard({ db, log, users: brokerUsers }),
    inHand,
  });
  const upkeep = startClientUpkeep(deps, userEndpoints);
  const deadLetters = await startDeadLetterLoop(broker, deps);
  const sweep = startSweep(deps);
  const takeover = startTakeover(deps, processId);
  const flowStarts = createFlowStarts({ db, temporal, config, log });
  const flowSweep = startFlowSweep({ db, log, flowStarts });
  await liftDeliveryLimit(brokerAdmin).catch((error: unknown) =>
    log.warn(
      { err: error },
      'could not lift the delivery limit of the broker: a message becomes a dead letter after 20 deliveries',
    ),
  );
  const maintenance = startMaintenance({
    ...deps,
    flowStarts,
    brokerUsers,
    queues: createEndpointQueues(broker),
  });
  const readiness = createReadiness({
    db,
    broker,
    temporal,
    worker: () => firstNotRunning([submissions, endpoints, calls, flows].map((worker) => worker.getState())),
  });
  const identities = createIdentities(db, { provider: createIdentityProvider(config) });
  const health = await startHealthServer(
    { host: config.HEALTH_HOST, port: config.HEALTH_PORT },
    async () => ({
      ...(await readiness()),
      results: results.isConsuming() ? { ok: true } : { ok: false, reason: 'results are not consumed' },
      presence: presence.isConsuming() ? { ok: true } : { ok: false, reason: 'heartbeats are not consumed' },
    }),
    (token) => isAdministrator(identities, token),
    (address) => log.info({ audit: { action: 'GET /metrics', address, outcome: 'refused', status: 401 } }, 'audit'),
  );
  log.info({ port: config.HEALTH_PORT }, 'ready');
  void announceServing(readiness).catch((error: unknown) =>
    log.error({ err: error }, 'could not report to the supervisor that this process is ready'),
  );

  onStopSignal(log, [
    {
      name: 'loops',
      run: () =>
        Promise.all([
          results.close(),
          presence.close(),
          deadLetters.close(),
          upkeep.close(),
          sweep.close(),
          takeover.close(),
          flowSweep.close(),
          maintenance.close(),
        ]),
    },
    {
      name: 'workers',
      run: async () => {
        [submissions, endpoints, calls, flows].forEach(stopWorker);
        await running;
      },
    },
    { name: 'health', run: async () => void health.close() },
    { name: 'messages of other processes', run: () => placeMessages.close() },
    { name: 'connections', run: () => service.close() },
  ]);
}

const firstNotRunning = (states: readonly string[]): string => states.find((state) => state !== 'RUNNING') ?? 'RUNNING';

main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  process.exit(1);
});

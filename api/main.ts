import { randomUUID } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { createServer } from 'node:http';
import { hostname } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';

import { createSubmissionActivities, type ActivityDeps } from '../activities';
import { endTasksOfEndpoint } from '../activities/complete';
import { createUserEndpoints } from '../activities/user-endpoints';
import { commandQueueName } from '../contracts/names';
import { createBrokerAdmin } from '../platform/broker-admin';
import { createEndpointQueues, createStockQueues } from '../platform/broker-topology';
import { createBrokerUsers } from '../platform/broker-users';
import { readBrokerAuthority, readConfig, withoutSecrets } from '../platform/config';
import { createEndpointUsers } from '../platform/endpoint-users';
import { createFlowStarts } from '../platform/flow-starts';
import { createReadiness } from '../platform/health';
import { createIdentities } from '../platform/identities';
import { createLogger } from '../platform/log';
import { createMissingQueues } from '../platform/missing-queues';
import { createIdentityProvider } from '../platform/oidc/provider';
import { announceServing, isReplica } from '../platform/replicas';
import { payloadCodecs } from '../platform/payload-codecs';
import { createSchedules } from '../platform/schedules';
import { connectService } from '../platform/service';
import { onStopSignal } from '../platform/shutdown';
import { readLastSeqs } from '../platform/store/tasks';
import { createWorker, stopWorker } from '../platform/temporal-workers';
import { createAccept } from '../accepting/accept';
import { createAudit } from './audit';
import { createApp } from './app';
import { createCancel } from './cancel';
import { createResultsSocket } from './funcx-1.0/results-socket';
import { createTakenCursor } from './funcx-1.0/taken-cursor';
import { createFreshSubmissions } from '../accepting/fresh-submissions';
import { createGroupQueues } from '../accepting/group-queues';
import { createGroupWatch } from './group-watch';
import { createQuotas } from '../accepting/quotas';
import { createRepeats } from './repeats';
import { createRevocationWatch } from './revocation-watch';
import { createRequeue } from './requeue';
import { createTaskBatches } from './task-batch';
import { createPlacement } from '../accepting/placement';

const KEEP_ALIVE_MS = 65_000;
const LAST_KEEP_ALIVE_MS = 1_000;
/** How long the results socket waits for a successor at its port. The successor of a replica already serves. */
const SUCCESSOR_MS = { supervised: 18_000, alone: 10_000 };

/** Also runs a Temporal worker on the connection that starts workflows: eager starts halve the latency. */
async function main(): Promise<void> {
  const config = readConfig();
  const log = createLogger('api', config.LOG_LEVEL);
  log.info({ config: withoutSecrets(config) }, 'starting');
  const processId = randomUUID();
  const service = await connectService('funcx-api', config, log, { eager: true, processId });
  const { db, broker, publisher, temporal } = service;
  const fresh = createFreshSubmissions(() => publisher.isReady);
  const activityDeps: ActivityDeps = {
    config,
    log,
    db,
    publisher,
    isQueueMissing: createMissingQueues(broker),
    temporal,
    fresh,
  };
  const stopping = new AbortController();
  setMaxListeners(0, stopping.signal); // every waiting request listens
  let isLeaving = false;

  const groupQueues = await createGroupQueues(broker, config.FUNCX_RESULT_QUEUE_EXPIRY_S);
  const codecs = payloadCodecs(config);
  const worker = await createWorker({
    connection: temporal.connection,
    identity: temporal.identity,
    namespace: config.TEMPORAL_NAMESPACE,
    payloadCodecs: codecs,
    taskQueue: config.TEMPORAL_SUBMISSIONS_QUEUE,
    activities: createSubmissionActivities(activityDeps),
    maxCachedWorkflows: 500,
    maxConcurrentActivities: 50,
  });
  const running = worker.run();
  await broker.start();

  const identityProvider = createIdentityProvider(config);
  const identities = createIdentities(db, { provider: identityProvider });
  if (config.FUNCX_BOOTSTRAP_IDENTITY_FILE) {
    await identities.ensureBootstrap(config.FUNCX_BOOTSTRAP_IDENTITY_FILE, config.FUNCX_BOOTSTRAP_AGENT_FILE);
  }
  const admin = createBrokerAdmin({
    managementUrl: config.AMQP_MANAGEMENT_URL,
    amqpUrl: config.AMQP_URL,
    maxConnections: config.FUNCX_MAX_AMQP_CONNECTIONS,
  });
  const groupWatch = createGroupWatch((ids) => readLastSeqs(db, ids), log);

  const revocations = createRevocationWatch(identities, log);

  const authority = readBrokerAuthority(config);
  const stockQueues = createStockQueues(broker);
  const endpointUsers = createEndpointUsers(db, admin, { url: config.AMQP_PUBLIC_URL, key: config.FUNCX_TOKEN_KEY });
  const userEndpoints = createUserEndpoints({ ...activityDeps, queues: stockQueues, users: endpointUsers, authority });
  const repeats = createRepeats(db, log, processId);
  const quotas = createQuotas(db, config);
  const audit = createAudit(db, log, config.FUNCX_AUDIT_DAYS);

  const readiness = createReadiness({
    db,
    broker,
    temporal,
    worker: () => worker.getState(),
    isStopping: () => isLeaving,
  });
  const app = createApp({
    config,
    log,
    db,
    identities,
    identityProvider,
    brokerUsers: createBrokerUsers(db, admin, config.AMQP_PUBLIC_URL),
    queues: createEndpointQueues(broker),
    stockQueues,
    endpointUsers,
    placement: createPlacement(db, userEndpoints, quotas, log),
    repeats,
    accept: createAccept({ config, log, db, temporal, groupQueues, quotas, fresh }),
    groupQueues,
    quotas,
    audit,
    cancel: createCancel(activityDeps),
    requeue: createRequeue(publisher),
    flowStarts: createFlowStarts({ db, temporal, config, log }),
    schedules: createSchedules(temporal, config),
    latestRunOf: (workflowId) => temporal.latestRunOf(workflowId).catch(() => undefined),
    readiness,
    payloadCodecs: codecs,
    brokerAuthority: authority,
    groupWatch,
    taskBatches: createTaskBatches(db),
    revocations,
    onEndpointDeleted: (endpointId) => endTasksOfEndpoint(activityDeps, endpointId),
    sendCommand: (endpointId, command) =>
      publisher.publish('', commandQueueName(endpointId), Buffer.from(JSON.stringify(command)), {
        contentType: 'application/json',
      }),
    stopping: stopping.signal,
  });

  const server = createServer({ keepAliveTimeout: KEEP_ALIVE_MS }, app);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(config.API_PORT, config.API_HOST, resolve);
  });
  const address = server.address();
  const port = address !== null && typeof address === 'object' ? address.port : config.API_PORT;
  await repeats.takeOver(`${hostname()} ${config.API_HOST}:${port}`);
  const resultsSocket = createResultsSocket({
    db,
    log,
    identities,
    quotas,
    audit,
    groupWatch,
    revocations,
    taken: createTakenCursor(db, log),
    host: config.API_HOST,
    port: config.WS_PORT,
  });
  await resultsSocket.listen();
  log.info({ host: config.API_HOST, port: config.API_PORT, wsPort: config.WS_PORT }, 'ready');
  void announceServing(readiness).catch((error: unknown) =>
    log.error({ err: error }, 'could not report to the supervisor that this process is ready'),
  );

  const stopDelayMs = config.FUNCX_STOP_DELAY_S * 1_000;
  const steps: Parameters<typeof onStopSignal>[1] = [
    {
      name: 'load balancers',
      run: async (signal) => {
        isLeaving = true;
        if (hasBalancer(signal)) await delay(stopDelayMs);
      },
    },
    {
      name: 'requests',
      run: () =>
        new Promise<void>((resolve) => {
          resultsSocket.stopAccepting();
          server.close(() => resolve());
          stopping.abort();
          server.keepAliveTimeout = LAST_KEEP_ALIVE_MS; // applies after the responses in progress
          server.closeIdleConnections();
        }),
    },
    { name: 'results socket', run: (signal) => resultsSocket.handOver(successorWithinMs(signal)) },
    {
      name: 'watches',
      run: async () => {
        groupWatch.close();
        revocations.close();
      },
    },
    { name: 'worker', run: () => (stopWorker(worker), running) },
    { name: 'audit log', run: () => audit.close() },
    { name: 'lease', run: async () => repeats.close() },
    { name: 'connections', run: () => service.close() },
  ];
  onStopSignal(log, steps, stopDelayMs);
}

/** False for a replica, which shares its port with its successor, and after Ctrl+C, which must stop the process without delay. */
function hasBalancer(signal: 'SIGTERM' | 'SIGINT'): boolean {
  return signal === 'SIGTERM' && !isReplica();
}

/** After SIGINT, no successor starts. */
function successorWithinMs(signal: 'SIGTERM' | 'SIGINT'): number {
  if (signal === 'SIGINT' || isReplica()) return 0;
  return process.connected ? SUCCESSOR_MS.supervised : SUCCESSOR_MS.alone;
}

main().catch((error: unknown) => {
  const busy = (error as NodeJS.ErrnoException).code === 'EADDRINUSE';
  const text = busy
    ? `Port ${(error as { port?: number }).port ?? ''} of the API is in use by another program. Stop that program, or set other ports with API_PORT and WS_PORT.`
    : error instanceof Error
      ? (error.stack ?? error.message)
      : String(error);
  process.stderr.write(`${text}\n`);
  process.exit(1);
});

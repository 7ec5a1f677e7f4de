import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';

import { Broker, type BrokerAddress, type Publisher, type ReceivedMessage } from '../broker';
import { CAPABILITY } from '../contracts/batches';
import { commandSchema, type Command } from '../contracts/frames';
import type { AgentRegistration } from '../contracts/http/v1';
import { assertNever } from '../contracts/states';

import type { AgentLog } from './agent-log';
import { Answers } from './answers';
import { Attempts } from './attempts';
import { Bodies } from './bodies';
import type { AgentConfig } from './config';
import { FunctionCodes } from './function-codes';
import { Heartbeat } from './heartbeat';
import { Intake } from './intake';
import { version } from './package.json';
import { Registrar, RegistrationRefusedError } from './registration';
import { createJavaScriptPool } from './runners/javascript';
import { ControlGroups } from './runners/limits';
import { OwnerFolders } from './runners/owner-folders';
import { ProcessGroups } from './runners/process-groups';
import { createPythonPool } from './runners/python';
import type { FunctionKind } from './runners/runner';
import { ShellRunner } from './runners/shell';
import { Slots } from './runners/slots';
import { ServiceClient } from './service-client';
import { StateDir } from './state-dir';

/**
 * The life cycle of an agent.
 *
 * | phase | entered by | left by |
 * |---|---|---|
 * | running | `start` | `drain` -> draining; `end` -> ending |
 * | draining | a signal, the drain command | nothing runs, deadline, second drain -> ending |
 * | ending | see above; a refused registration, the stop command | all closed -> ended |
 * | ended | | |
 *
 * Whether the broker is connected is not a phase: calls continue to run while the connection is lost.
 *
 * The agent takes tasks only while a worker can be started. Until the first worker is ready, and later while no worker can be
 * started, the agent reports the endpoint as offline, so that its tasks wait in the service.
 */

type Phase = 'running' | 'draining' | 'ending' | 'ended';

export interface AgentEnd {
  exitCode: number;
  /** The reason, if the user did not stop the agent. */
  sentence?: string;
}

const MAX_BACKOFF_MS = 30_000;
const COMMAND_PREFETCH = 20;
const CONFIRM_PREFETCH = 32;
/** Time limit for the last heartbeat, and for closing the broker connection, when the agent ends. */
const GOODBYE_MS = 3_000;
const STOP_GRACE_MS = 2_000;
const START_RETRY_MS = 5_000;
const STARTING = 'The first worker is starting.';

export class Agent {
  readonly ended: Promise<AgentEnd>;
  readonly incarnation = randomUUID();
  #phase: Phase = 'running';
  readonly #state: StateDir;
  readonly #client: ServiceClient;
  readonly #registrar: Registrar;
  readonly #broker: Broker;
  readonly #groups = new ProcessGroups();
  readonly #slots: Slots;
  readonly #folders: OwnerFolders;
  readonly #attempts = new Attempts();
  readonly #codes: FunctionCodes;
  readonly #workerLog: { fd: number; file: string };
  #answers: Answers | undefined;
  #heartbeat: Heartbeat | undefined;
  #intake: Intake | undefined;
  #ackTimer: NodeJS.Timeout | undefined;
  /** Why the agent takes no tasks: no worker is ready yet, or none can be started. */
  #problem: string | undefined = STARTING;
  /** Aborted by a second drain, which ends the agent without waiting. */
  readonly #endNow = new AbortController();
  #resolveEnded: (end: AgentEnd) => void = () => undefined;

  /** Throws `DirectoryInUseError` if another agent uses the directory. */
  constructor(
    private readonly config: AgentConfig,
    private readonly log: AgentLog,
  ) {
    this.ended = new Promise((resolve) => (this.#resolveEnded = resolve));
    this.#client = new ServiceClient({
      apiUrl: config.apiUrl,
      clientId: config.clientId,
      clientSecret: config.clientSecret,
      ...(config.caFile ? { ca: fs.readFileSync(config.caFile, 'utf8') } : {}),
    });
    this.#state = StateDir.open(config.dir, config.confinement.user);
    this.#workerLog = this.#state.openWorkerLog();
    this.#registrar = new Registrar({
      client: this.#client,
      state: this.#state,
      wishedId: config.wishedId,
      body: {
        name: config.name,
        public: config.sharing.isPublic,
        group: config.sharing.groupId,
        allowed_functions: config.sharing.functionIds,
        incarnation: this.incarnation,
        workers: config.workers,
        capabilities: Object.values(CAPABILITY),
        metadata: { hostname: hostname(), agent_version: version, node_version: process.version },
      },
    });
    this.#broker = new Broker({
      address: () => this.#register(),
      name: `agent ${config.name} on ${hostname()}`,
      log,
      maxBackoffMs: MAX_BACKOFF_MS,
      onConnected: () => this.#onConnected(),
    });
    this.#codes = new FunctionCodes(new Bodies(this.#client, config.workers + 2, log));
    const controlGroups = config.confinement.limits === undefined ? undefined : ControlGroups.open();
    const confinement = { ...config.confinement, controlGroups };
    this.#folders = new OwnerFolders({ confinement, log });
    const { isPublic, groupId } = config.sharing;
    const shared = {
      env: config.workerEnv,
      confinement,
      folders: this.#folders,
      slots: config.workers,
      isShared: isPublic === true || typeof groupId === 'string',
      groups: this.#groups,
      hostname: hostname(),
      logFd: this.#workerLog.fd,
      logPath: this.#workerLog.file,
      log,
    };
    const python = createPythonPool(config.python, shared);
    const javascript = createJavaScriptPool(shared);
    this.#slots = new Slots(config.workers, () => ({
      python: python.runner(),
      javascript: javascript.runner(),
      shell: new ShellRunner(shared),
    }));
  }

  async start(): Promise<void> {
    await this.#folders.clean();
    this.#slots.warm('python');
    const publisher = await this.#broker.publisher();
    const registration = (): AgentRegistration => this.#registration();
    await this.#broker.consume({
      queue: () => registration().command_queue,
      prefetch: COMMAND_PREFETCH,
      onMessage: (message) => this.#onCommand(message),
    });
    this.#answers = new Answers({
      client: this.#client,
      publisher,
      registration,
      slots: this.#slots,
      whenConnected: () => this.#broker.whenConnected(),
      log: this.log,
    });
    this.#intake = new Intake({
      broker: this.#broker,
      answers: this.#answers,
      attempts: this.#attempts,
      codes: this.#codes,
      slots: this.#slots,
      registration,
      maxWalltimeMs: this.config.maxWalltimeMs,
      // One running and one queued call per worker, and the results that wait for the broker's confirm. With a smaller prefetch,
      // workers are idle until the confirm (measured with 2 workers: 4 -> 1,600 tasks/s, 16 -> 2,300, 64 -> 2,600).
      prefetch: 2 * this.config.workers + CONFIRM_PREFETCH,
      onCannotStart: (kind, reason) => this.#onCannotStart(kind, reason),
      log: this.log,
    });
    this.#startReporting(publisher);
    void this.#openWhenReady('python').catch((error: unknown) =>
      this.log.error({ reason: String(error) }, 'cannot start taking tasks'),
    );
    this.#broker.start().catch((error: unknown) => this.log.debug({ reason: String(error) }, 'never connected'));
  }

  /** Waits until a worker is ready, then takes tasks. Until then, the agent's status and heartbeats report the problem. */
  async #openWhenReady(kind: FunctionKind): Promise<void> {
    for (;;) {
      const problem = await this.#slots.whyNotReady(kind);
      if (this.#phase !== 'running') return;
      if (problem === undefined) break;
      if (problem !== this.#problem) this.log.error({ reason: problem }, 'no worker can be started; the agent takes no tasks');
      this.#report(problem);
      await sleep(START_RETRY_MS, undefined, { ref: false });
    }
    await this.#intake?.open();
    this.#report(undefined);
  }

  #onCannotStart(kind: FunctionKind, reason: string): void {
    this.log.error({ reason }, 'no worker can be started; the agent takes no tasks');
    this.#report(reason);
    void this.#openWhenReady(kind).catch((error: unknown) =>
      this.log.error({ reason: String(error) }, 'cannot start taking tasks'),
    );
  }

  #report(problem: string | undefined): void {
    this.#problem = problem;
    this.#heartbeat?.beat();
    this.#writeStatus();
  }

  /** Takes no more tasks, waits for running calls up to the configured time, then ends. A second call ends the wait. */
  drain(why: string): void {
    if (this.#phase !== 'running') {
      this.#endNow.abort();
      return;
    }
    this.#phase = 'draining';
    this.log.info({ why, ...this.#attempts.counts }, 'draining');
    this.#writeStatus();
    void this.#drain().catch((error: unknown) => {
      this.log.error({ reason: String(error) }, 'the drain failed');
      this.#end({ exitCode: 1 }, true);
    });
  }

  async #drain(): Promise<void> {
    await this.#intake?.close();
    const deadline = sleep(this.config.drainMs, undefined, { signal: this.#endNow.signal }).catch(() => undefined);
    if (!this.#endNow.signal.aborted) await Promise.race([this.#intake?.whenIdle(), deadline]);
    this.#end({ exitCode: 0 }, true);
  }

  #end(end: AgentEnd, sayGoodbye: boolean): void {
    if (this.#phase === 'ending' || this.#phase === 'ended') return;
    this.#phase = 'ending';
    this.#close(sayGoodbye)
      .catch((error: unknown) => this.log.error({ reason: String(error) }, 'the agent did not shut down cleanly'))
      .finally(() => {
        this.#phase = 'ended';
        this.log.info({ exitCode: end.exitCode }, 'the agent has ended');
        this.#resolveEnded(end);
      });
  }

  async #close(sayGoodbye: boolean): Promise<void> {
    await this.#intake?.close();
    this.#attempts.giveBack(() => true);
    await this.#slots.close(this.#endNow.signal.aborted ? 0 : STOP_GRACE_MS);
    clearInterval(this.#ackTimer);
    await Promise.race([this.#heartbeat?.stop(sayGoodbye), sleep(GOODBYE_MS, undefined, { ref: false })]);
    this.#answers?.close();
    this.#registrar.close();
    await Promise.race([this.#broker.close(), sleep(GOODBYE_MS, undefined, { ref: false })]);
    this.#client.close();
    this.#groups.close();
    fs.closeSync(this.#workerLog.fd);
    this.#state.close();
  }

  #startReporting(publisher: Publisher): void {
    this.#heartbeat = new Heartbeat({
      publisher,
      registration: () => this.#registrar.present,
      isConnected: () => this.#broker.isConnected && !this.#broker.isBlocked,
      attempts: this.#attempts,
      workers: () => ({ total: this.#slots.total, idle: this.#slots.idle }),
      incarnation: this.incarnation,
      problem: () => this.#problem,
      log: this.log,
      onTick: () => this.#onTick(),
    });
    this.#heartbeat.start();
    this.#writeStatus();
    const ackWithinMs = (): number => this.config.ackWithinMs ?? this.#registrar.present?.ack_within_ms ?? Infinity;
    const sweepMs = Math.min(1_000, Math.max(50, (this.config.ackWithinMs ?? 10_000) / 10));
    this.#ackTimer = setInterval(() => {
      const count = this.#attempts.acknowledgeOld(Date.now() - ackWithinMs());
      if (count > 0) this.log.info({ count }, 'acknowledged old attempts early; from now on only heartbeats keep them');
    }, sweepMs);
  }

  async #register(): Promise<BrokerAddress> {
    try {
      const registration = await this.#registrar.register();
      this.log.info({ endpoint: registration.endpoint_id, name: this.config.name }, 'registered');
      return registration.broker;
    } catch (error) {
      if (error instanceof RegistrationRefusedError) {
        this.#end({ exitCode: error.exitCode, sentence: error.message }, false);
      }
      throw error;
    }
  }

  #registration(): AgentRegistration {
    const present = this.#registrar.present;
    if (!present) throw new Error('the agent is not registered yet');
    return present;
  }

  #onTick(): void {
    this.#writeStatus();
    this.#state.limitWorkerLog(this.#workerLog);
  }

  #onConnected(): void {
    this.#heartbeat?.beat();
    this.#writeStatus();
  }

  #writeStatus(): void {
    if (this.#phase === 'ended') return;
    const running = !this.#broker.isConnected || this.#problem !== undefined ? 'connecting' : 'connected';
    this.#state.writeStatus({
      state: this.#phase === 'running' ? running : 'draining',
      ...(this.#problem === undefined ? {} : { problem: this.#problem, is_starting: this.#problem === STARTING }),
      endpoint_id: this.#registrar.present?.endpoint_id ?? this.#state.endpointId,
      workers: this.config.workers,
      pid: process.pid,
      incarnation: this.incarnation,
      updated_ms: Date.now(),
    });
  }

  #onCommand(delivery: ReceivedMessage): void {
    let command: Command;
    try {
      command = commandSchema.parse(JSON.parse(delivery.body.toString('utf8')));
    } catch (error) {
      this.log.error({ reason: String(error) }, 'a command is malformed');
      delivery.nack(false);
      return;
    }
    delivery.ack();
    switch (command.command) {
      case 'cancel':
        for (const name of command.tasks) this.#intake?.cancel(name.split('/', 1)[0] ?? name);
        break;
      case 'drain':
        this.drain('requested by the service');
        break;
      case 'stop':
        // Other incarnations of the agent read the same queue.
        if (command.incarnation !== undefined && command.incarnation !== this.incarnation) break;
        this.log.warn({ reason: command.reason }, 'the service ended this agent');
        // Without a last heartbeat: another agent may already report for the endpoint.
        this.#end({ exitCode: 0, sentence: command.reason }, false);
        break;
      default:
        assertNever(command);
    }
  }
}

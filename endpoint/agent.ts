import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';

import { Broker, type BrokerAddress, type Consumer, type Delivery, type Publisher } from '../broker';
import { commandSchema, decodeFrame, taskHeadersSchema, type Command, type TaskData } from '../contracts/frames';
import type { AgentRegistration } from '../contracts/http/v1';
import { assertNever } from '../contracts/states';

import { Answers } from './answers';
import { Attempts, type Attempt } from './attempts';
import { Bodies, type FetchedBody } from './bodies';
import type { AgentConfig } from './config';
import { Heartbeat } from './heartbeat';
import { version } from './package.json';
import { Registrar, RegistrationRefusedError } from './registration';
import { createJavaScriptRunner } from './runners/javascript';
import { ProcessGroups } from './runners/process-groups';
import { createPythonRunner } from './runners/python';
import { failure, type Outcome } from './runners/runner';
import { ShellRunner } from './runners/shell';
import { Slots } from './runners/slots';
import { ServiceClient } from './service-client';
import { StateDir } from './state-dir';

/**
 * The life of an agent.
 *
 * | phase | entered by | left by |
 * |---|---|---|
 * | running | `start` | `drain` -> draining; `end` -> ending |
 * | draining | a signal, the drain command | nothing runs, deadline, second signal -> ending |
 * | ending | see above; a refused registration, the stop command | all closed -> ended |
 * | ended | | |
 *
 * Connected or not is the broker's state, not a phase: calls go on while the connection is away.
 */

export interface AgentLog {
  debug(fields: object, text: string): void;
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
  error(fields: object, text: string): void;
}

type Phase = 'running' | 'draining' | 'ending' | 'ended';

/** Why the agent ended, for the process's exit. */
export interface AgentEnd {
  exitCode: number;
  /** A sentence for the user, when it did not end by their own wish. */
  sentence?: string;
}

const MAX_BACKOFF_MS = 30_000;
const COMMAND_PREFETCH = 20;
const CONFIRM_PREFETCH = 32;
/** How long results and the last heartbeat may take at the end. */
const GOODBYE_MS = 3_000;
const STOP_GRACE_MS = 2_000;

export class Agent {
  /** Resolves when everything is closed. */
  readonly ended: Promise<AgentEnd>;
  readonly incarnation = randomUUID();
  #phase: Phase = 'running';
  readonly #state: StateDir;
  readonly #client: ServiceClient;
  readonly #registrar: Registrar;
  readonly #broker: Broker;
  readonly #groups = new ProcessGroups();
  readonly #slots: Slots;
  readonly #attempts = new Attempts();
  readonly #bodies: Bodies;
  readonly #workerLogFd: number;
  #answers: Answers | undefined;
  #heartbeat: Heartbeat | undefined;
  #taskConsumer: Consumer | undefined;
  #ackTimer: NodeJS.Timeout | undefined;
  #onIdle: (() => void) | undefined;
  readonly #hurry = new AbortController();
  #resolveEnded: (end: AgentEnd) => void = () => undefined;

  /** Throws `DirectoryInUseError` when another agent has the directory. */
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
    this.#state = StateDir.open(config.dir);
    const workerLog = this.#state.openWorkerLog();
    this.#workerLogFd = workerLog.fd;
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
    this.#bodies = new Bodies(this.#client, config.workers + 2, log);
    const shared = {
      env: config.workerEnv,
      cwd: config.workerEnv.FUNCX_RUN_DIR ?? config.dir,
      groups: this.#groups,
      hostname: hostname(),
      logFd: workerLog.fd,
      logPath: workerLog.file,
      log,
    };
    this.#slots = new Slots(config.workers, () => ({
      python: createPythonRunner(config.python, shared),
      javascript: createJavaScriptRunner(shared),
      shell: new ShellRunner(shared),
    }));
  }

  /** Begins; everything after is told by `ended`. */
  async start(): Promise<void> {
    this.#slots.warm('python');
    const publisher = await this.#broker.publisher();
    // One running and one queued call a worker, and what waits for the broker's confirm: with less, workers idle meanwhile
    // (measured with 2 workers: 4 -> 1,600 tasks/s, 16 -> 2,300, 64 -> 2,600). A neighbour does not wait longer for it: the
    // broker's queue is first come, first served too, and the service bounds what is in both together.
    const prefetch = 2 * this.config.workers + CONFIRM_PREFETCH;
    // Queue names come with each registration, and the broker reads them at each connection.
    const registered = (): AgentRegistration => this.#registration();
    await this.#broker.consume({
      get queue() {
        return registered().command_queue;
      },
      prefetch: COMMAND_PREFETCH,
      onDelivery: (delivery) => this.#onCommand(delivery),
    });
    this.#taskConsumer = await this.#broker.consume({
      get queue() {
        return registered().task_queue;
      },
      prefetch,
      onDelivery: (delivery) => this.#onTask(delivery),
    });
    this.#startReporting(publisher);
    this.#broker.start().catch((error: unknown) => this.log.debug({ reason: String(error) }, 'never connected'));
  }

  /** Takes no more tasks, lets running calls finish up to the configured time, ends. Called again: ends at once. */
  drain(why: string): void {
    if (this.#phase !== 'running') {
      this.#hurry.abort();
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
    await this.#taskConsumer?.pause().catch(() => undefined); // not connected: nothing to pause
    for (const { taskId } of this.#attempts.giveBack((attempt) => attempt.state === 'queued')) this.#slots.withdraw(taskId);
    await this.#idle(this.config.drainMs);
    this.#end({ exitCode: 0 }, true);
  }

  /** Resolves when nothing runs and every result is confirmed, at the deadline, or when somebody is in a hurry. */
  async #idle(deadlineMs: number): Promise<void> {
    if (this.#isIdle() || this.#hurry.signal.aborted) return;
    const idle = new Promise<void>((resolve) => (this.#onIdle = resolve));
    const deadline = sleep(deadlineMs, undefined, { signal: this.#hurry.signal }).catch(() => undefined);
    await Promise.race([idle, deadline]);
  }

  #isIdle(): boolean {
    const { running, answering } = this.#attempts.counts;
    return running + answering === 0;
  }

  #end(end: AgentEnd, sayGoodbye: boolean): void {
    if (this.#phase === 'ending' || this.#phase === 'ended') return;
    this.#phase = 'ending';
    this.#close(sayGoodbye)
      .catch((error: unknown) => this.log.error({ reason: String(error) }, 'the end was not clean'))
      .finally(() => {
        this.#phase = 'ended';
        this.log.info({ exitCode: end.exitCode }, 'the agent has ended');
        this.#resolveEnded(end);
      });
  }

  async #close(sayGoodbye: boolean): Promise<void> {
    await this.#taskConsumer?.pause().catch(() => undefined); // not connected: nothing to pause
    this.#attempts.giveBack(() => true);
    await this.#slots.close(this.#hurry.signal.aborted ? 0 : STOP_GRACE_MS);
    clearInterval(this.#ackTimer);
    await Promise.race([this.#heartbeat?.stop(sayGoodbye), sleep(GOODBYE_MS, undefined, { ref: false })]);
    this.#answers?.close();
    this.#registrar.close();
    await Promise.race([this.#broker.close(), sleep(GOODBYE_MS, undefined, { ref: false })]);
    this.#client.close();
    this.#groups.close();
    fs.closeSync(this.#workerLogFd);
    this.#state.close();
  }

  #startReporting(publisher: Publisher): void {
    this.#answers = new Answers({
      client: this.#client,
      publisher,
      registration: () => this.#registration(),
      whenConnected: () => this.#broker.whenConnected(),
      log: this.log,
    });
    this.#heartbeat = new Heartbeat({
      publisher,
      registration: () => this.#registrar.present,
      isConnected: () => this.#broker.isConnected,
      attempts: this.#attempts,
      workers: () => ({ total: this.#slots.total, idle: this.#slots.idle }),
      incarnation: this.incarnation,
      log: this.log,
      onTick: () => this.#writeStatus(),
    });
    this.#heartbeat.start();
    this.#writeStatus();
    const ackWithinMs = (): number => this.config.ackWithinMs ?? this.#registrar.present?.ack_within_ms ?? Infinity;
    const sweepMs = Math.min(1_000, Math.max(50, (this.config.ackWithinMs ?? 10_000) / 10));
    this.#ackTimer = setInterval(() => {
      const count = this.#attempts.acknowledgeOld(Date.now() - ackWithinMs());
      if (count > 0) this.log.info({ count }, 'acknowledged long attempts early; heartbeats keep them');
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

  #onConnected(): void {
    this.#heartbeat?.beat();
    this.#writeStatus();
  }

  #writeStatus(): void {
    if (this.#phase === 'ended') return;
    const connection = this.#broker.isConnected ? 'connected' : 'connecting';
    this.#state.writeStatus({
      state: this.#phase === 'running' ? connection : 'draining',
      endpoint_id: this.#registrar.present?.endpoint_id ?? this.#state.endpointId,
      workers: this.config.workers,
      pid: process.pid,
      incarnation: this.incarnation,
      updated_ms: Date.now(),
    });
  }

  #onTask(delivery: Delivery): void {
    if (this.#phase !== 'running') {
      delivery.nack(true);
      return;
    }
    let attempt: Attempt | undefined;
    let data: TaskData;
    try {
      const frame = decodeFrame(delivery.body);
      if (frame.message_type !== 'task') throw new SyntaxError(`a ${frame.message_type} frame on the queue of tasks`);
      data = frame.data;
      const headers = taskHeadersSchema.parse(delivery.headers);
      attempt = this.#attempts.receive(data.task_id, headers, delivery, Date.now());
    } catch (error) {
      // To the dead-letter queue: nobody could ever run it.
      this.log.error({ reason: String(error), bytes: delivery.body.length }, 'a task message is not understood');
      delivery.nack(false);
      return;
    }
    if (attempt) void this.#accept(attempt, data).catch((error: unknown) => this.#onBug(error));
  }

  async #accept(attempt: Attempt, data: TaskData): Promise<void> {
    const { taskId } = attempt;
    if (this.#attempts.isCancelled(taskId)) {
      this.#finish(attempt, failure('Cancelled', `Task ${taskId} was cancelled before it ran.`));
      return;
    }
    let body: FetchedBody | undefined = { text: data.task_buffer, release: () => undefined };
    if (data.claim) {
      try {
        body = await this.#bodies.fetch(data.claim, () => this.#attempts.open(taskId) === attempt);
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        this.#finish(attempt, failure('InvalidTask', `The body of task ${taskId} could not be fetched: ${reason}`));
        return;
      }
      if (!body) return; // cancelled or given back
    }
    const place = body;
    this.#slots.add({
      taskId,
      buffer: place.text,
      resultSerializers: attempt.headers.result_serializers,
      walltimeMs: attempt.headers['funcx-walltime-ms'],
      maxResultChars: this.#registration().max_body_bytes,
      onStart: () => {
        place.release();
        this.#attempts.start(attempt, Date.now());
      },
      onWithdrawn: () => place.release(),
      onOutcome: (outcome) => this.#finish(attempt, outcome),
    });
  }

  #finish(attempt: Attempt, outcome: Outcome): void {
    if (!this.#attempts.finish(attempt, outcome)) return; // given back at the end of the agent
    if (outcome.isLost) this.log.warn({ task: attempt.taskId, reason: outcome.data }, 'a worker was lost');
    this.#answers?.send(attempt, outcome).then(
      (isConfirmed) => {
        if (isConfirmed) this.#attempts.answered(attempt);
        if (this.#isIdle()) this.#onIdle?.();
      },
      (error: unknown) => this.#onBug(error),
    );
  }

  #onCommand(delivery: Delivery): void {
    let command: Command;
    try {
      command = commandSchema.parse(JSON.parse(delivery.body.toString('utf8')));
    } catch (error) {
      this.log.error({ reason: String(error) }, 'a command is not understood');
      delivery.nack(false);
      return;
    }
    delivery.ack();
    switch (command.command) {
      case 'cancel':
        for (const name of command.tasks) this.#cancel(name.split('/', 1)[0] ?? name);
        break;
      case 'drain':
        this.drain('the service asked for it');
        break;
      case 'stop':
        this.log.warn({ reason: command.reason }, 'the service ended this agent');
        // Without a goodbye: another agent may speak for the endpoint already.
        this.#end({ exitCode: 0, sentence: command.reason }, false);
        break;
      default:
        assertNever(command);
    }
  }

  #cancel(taskId: string): void {
    this.#attempts.cancel(taskId);
    const attempt = this.#attempts.open(taskId);
    if (!attempt) return; // not here yet, or answered
    if (attempt.state === 'running') {
      this.#slots.stop(taskId, 'Cancelled', `Task ${taskId} was cancelled while it ran.`);
      return;
    }
    this.#slots.withdraw(taskId);
    this.#finish(attempt, failure('Cancelled', `Task ${taskId} was cancelled before it ran.`));
  }

  /** A promise of ours that must not reject did: say it loudly, keep the other tasks going. */
  #onBug(error: unknown): void {
    this.log.error({ reason: error instanceof Error ? error.stack : String(error) }, 'unexpected error in the agent');
  }
}

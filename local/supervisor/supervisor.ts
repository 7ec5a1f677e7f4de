import { ensureError } from '../../contracts/errors';

import { answers, startPostgres } from '../engines/postgres';
import { answersManagement, startRabbitmq } from '../engines/rabbitmq';
import { requireOwnNetwork } from '../engines/own-network';
import { startTemporal } from '../engines/temporal';
import { cacheDirOf, logFileOf, makeFolders } from '../machine/layout';
import { accepts, anyFreePort } from '../machine/ports';
import { messageOf, UserError } from '../machine/user-error';
import { ProcessRegistry } from '../processes/process-registry';
import { ENGINE_PORTS, SERVICE_NAMES } from '../processes/start-context';
import { ensureAgentPython, isAgentConnected, makeEndpointDir, readEndpointId } from '../setup/agent-folder';
import { ensureAgentIdentity } from '../setup/agent-identity';
import { choosePorts, moveTakenPorts } from '../setup/choose-ports';
import { agentVariables, initialState, serviceVariables } from '../setup/environment';
import { isPublic, sayHello } from '../setup/hello';
import { readExternals } from '../setup/options';
import { findSeparation, isSameUserWanted, type Separation } from '../setup/separation';
import { ownTemporalOf, readState, writeState } from '../setup/state';
import * as ours from './our-services';

import type { Layout } from '../machine/layout';
import type { PortName } from '../machine/ports';
import type { ManagedProcess, ManagedProcessOptions } from '../processes/managed-process';
import type { ReplicaName, ServiceName, StartContext } from '../processes/start-context';
import type { AgentIdentity } from '../setup/agent-identity';
import type { ChosenPorts } from '../setup/choose-ports';
import type { Externals, ReplicatedService, UpOptions } from '../setup/options';
import type { SystemState } from '../setup/state';

type EngineName = keyof typeof ENGINE_PORTS;

interface PreparedAgent {
  file: string;
  identity: AgentIdentity;
  separation: Separation | undefined;
}

const PORT_TRIES = 3;

const LOOPBACK = '127.0.0.1';

/**
 * Runs one system: starts the engines in parallel, then our own processes, restarts what dies, and stops everything in reverse
 * order. Writes the state file after every change. `stop` may be called at any time, also during `start`.
 */
export class Supervisor {
  readonly #layout: Layout;
  readonly #options: UpOptions;
  readonly #say: (line: string) => void;
  readonly #abort = new AbortController();
  readonly #registry: ProcessRegistry;
  readonly #managed = new Map<ServiceName, ManagedProcess[]>();
  #externals: Externals = {};
  /** One port for each replica; empty until the ports are chosen. */
  #ports: Record<ReplicatedService, number[]> = { api: [], workers: [] };
  #chosen: ChosenPorts | undefined;
  #state: SystemState | undefined;
  #starting: Promise<unknown> = Promise.resolve();
  #isStopAsked = false;
  #agent: PreparedAgent | undefined;

  constructor(layout: Layout, options: UpOptions, say: (line: string) => void) {
    this.#layout = layout;
    this.#options = options;
    this.#say = say;
    this.#registry = new ProcessRegistry(layout);
  }

  /** Throws a {@link UserError} when a part cannot start. By then, every part that had started is stopped. */
  async start(): Promise<SystemState> {
    const starting = this.#start();
    this.#starting = starting.catch(() => undefined);
    try {
      return await starting;
    } catch (error) {
      await this.#stopParts();
      this.#setPhase(this.#isStopAsked ? 'stopped' : 'failed', this.#isStopAsked ? null : messageOf(error));
      throw error;
    }
  }

  async stop(): Promise<void> {
    this.#isStopAsked = true;
    this.#abort.abort(new UserError('The start was cancelled.'));
    await this.#starting;
    if (this.#state?.phase === 'stopped' || this.#state?.phase === 'failed') return;
    this.#setPhase('stopping');
    await this.#stopParts();
    this.#setPhase('stopped');
  }

  get movedPorts(): ReadonlyMap<PortName, number> {
    return this.#chosen?.moved ?? new Map();
  }

  async #start(): Promise<SystemState> {
    this.#externals = readExternals(process.env, ownTemporalOf(readState(this.#layout)));
    makeFolders(this.#layout);
    if (this.#options.sharedHost && this.#externals.temporalAddress === undefined) requireOwnNetwork();
    if (this.#needsPython()) this.#prepareAgent();
    await this.#registry.stopLeftBehind(this.#say);
    const chosen = await choosePorts(this.#layout, this.#options, this.#externalPorts());
    this.#chosen = chosen;
    this.#state = initialState(this.#layout, chosen.ports, this.#externals, this.#options.sharedHost);
    const context: StartContext = {
      layout: this.#layout,
      cacheDir: cacheDirOf(this.#layout),
      ports: chosen.ports,
      registry: this.#registry,
      say: this.#say,
      signal: this.#abort.signal,
      onChange: () => this.#writeState(),
    };
    this.#writeState();
    const python = this.#needsPython() ? this.#preparePython(context) : Promise.resolve(undefined);
    await allOrAbort([this.#startService(context), python], this.#abort);
    const interpreter = await python;
    if (interpreter !== undefined) await this.#startEndpoint(context, interpreter);
    this.#setPhase('ready');
    return this.#state;
  }

  #needsPython(): boolean {
    return this.#options.endpoint && !this.#options.onlyEngines;
  }

  /** Creates the agent's identity, and decides how function code is separated from the service's secrets. */
  #prepareAgent(): void {
    const { endpointName, publicTutorial } = this.#options;
    const found = findSeparation(this.#layout, cacheDirOf(this.#layout));
    const isApart = !('refusal' in found);
    if (publicTutorial && !isApart) {
      throw new UserError(
        `--public-tutorial requires that functions are separated from the service, but ${found.refusal}. Run "up" as root in a ` +
          'folder that every user can reach, or install bubblewrap and run "up" as an ordinary user.',
      );
    }
    const isRoot = process.getuid?.() === 0;
    const isWanted = publicTutorial || (isRoot && !isSameUserWanted());
    if (isWanted && !isApart) this.#say(`functions run as root, because ${found.refusal}; do not share this endpoint`);
    const { file, identity } = ensureAgentIdentity(this.#layout, endpointName, publicTutorial);
    this.#agent = { file, identity, separation: isWanted && isApart ? found : undefined };
  }

  #requireAgent(): PreparedAgent {
    if (this.#agent === undefined) throw new Error('the agent has no identity yet');
    return this.#agent;
  }

  #externalPorts(): Set<PortName> {
    const { databaseUrl: database, temporalAddress, amqpUrl: broker } = this.#externals;
    return new Set([
      ...(database === undefined ? [] : ENGINE_PORTS.postgres),
      ...(temporalAddress === undefined ? [] : ENGINE_PORTS.temporal),
      ...(broker === undefined ? [] : ENGINE_PORTS.rabbitmq),
    ]);
  }

  async #startPostgres(context: StartContext): Promise<void> {
    const external = this.#externals.databaseUrl;
    if (external !== undefined) {
      return this.#useExternal('postgres', 'DATABASE_URL', new URL(external).host, () => answers(external));
    }
    await this.#startEngine('postgres', context, async () => [await startPostgres(context)]);
  }

  async #startTemporal(context: StartContext): Promise<void> {
    const external = this.#externals.temporalAddress;
    if (external !== undefined) {
      const { hostname, port } = new URL(`tcp://${external}`);
      return this.#useExternal('temporal', 'TEMPORAL_ADDRESS', external, () => accepts(hostname, Number(port)));
    }
    await this.#startEngine('temporal', context, async () => [await startTemporal(context, this.#current.temporal_access)]);
  }

  async #startRabbitmq(context: StartContext): Promise<void> {
    const { amqpUrl: external, managementUrl: management } = this.#externals;
    if (external !== undefined && management !== undefined) {
      return this.#useExternal('rabbitmq', 'AMQP_URL', new URL(external).host, () => answersManagement(management));
    }
    await this.#startEngine('rabbitmq', context, () => startRabbitmq(context));
  }

  async #useExternal(name: ServiceName, variable: string, where: string, check: () => Promise<boolean>): Promise<void> {
    try {
      if (!(await check())) throw new Error('check its address and its credentials');
    } catch (cause) {
      throw new UserError(`${name} at ${where} (${variable}) cannot be used: ${messageOf(cause)}.`, { cause });
    }
    this.#say(`using the external ${name} at ${where} (${variable})`);
  }

  /** Another program may take a port between our choice and its use. The engine then gets another port. */
  async #startEngine(name: EngineName, context: StartContext, start: () => Promise<ManagedProcess[]>): Promise<void> {
    const started = performance.now();
    for (let tries = 1; ; tries++) {
      try {
        this.#managed.set(name, await start());
        break;
      } catch (error) {
        const hasMoved =
          tries < PORT_TRIES &&
          !this.#abort.signal.aborted &&
          this.#chosen !== undefined &&
          (await moveTakenPorts(this.#layout, name, this.#chosen));
        if (!hasMoved) throw error;
      }
    }
    const ports = { postgres: context.ports.postgres, temporal: context.ports.temporal, rabbitmq: context.ports.amqp };
    this.#sayReady(name, started, ` on ${LOOPBACK}:${ports[name]}`);
  }

  async #preparePython(context: StartContext): Promise<string> {
    const started = performance.now();
    const python = await ensureAgentPython(context);
    this.#sayReady('agent python', started, '');
    return python;
  }

  async #startService(context: StartContext): Promise<void> {
    await allOrAbort([this.#startPostgres(context), this.#startTemporal(context), this.#startRabbitmq(context)], this.#abort);
    if (this.#options.onlyEngines) return;
    const variables = serviceVariables(this.#layout, this.#current, this.#externals, this.#agent?.file);
    const { api, workersHealth } = context.ports;
    const { replicas } = this.#options;
    const healthPorts = [workersHealth];
    while (healthPorts.length < replicas.workers) {
      healthPorts.push(await anyFreePort(new Set([...Object.values(context.ports), ...healthPorts])));
    }
    this.#ports = { api: Array.from({ length: replicas.api }, () => api), workers: healthPorts };
    const health = (port: number): Record<string, string> => ({ HEALTH_HOST: LOOPBACK, HEALTH_PORT: String(port) });
    await allOrAbort(
      [
        ...this.#ports.api.map((_, index) =>
          this.#startOne('api', variables, 'says so', ` on ${this.#current.api_url}`, context, index),
        ),
        ...healthPorts.map((port, index) =>
          this.#startOne('workers', { ...variables, ...health(port) }, 'says so', '', context, index),
        ),
      ],
      this.#abort,
    );
  }

  async #startEndpoint(context: StartContext, python: string): Promise<void> {
    const name = this.#options.endpointName;
    const dir = makeEndpointDir(this.#layout, name);
    const isConnected = (pid: number): Promise<boolean> => Promise.resolve(isAgentConnected(dir, pid));
    const { identity, separation } = this.#requireAgent();
    if (!identity.public && (await isPublic(this.#current, identity.endpoint_id))) {
      this.#say(`endpoint "${name}" was public and is now private; "npm run up -- --public-tutorial" lets every identity use it`);
    }
    const variables = agentVariables(this.#current, { name, dir, python, identity, separation });
    await this.#startOne('endpoint', variables, isConnected, ` as "${name}"`, context);
    this.#current.python = python;
    this.#current.endpoint = { name, dir, id: readEndpointId(dir) };
    this.#current.hello = await sayHello(this.#current, this.#abort.signal);
  }

  async #startOne(
    name: ours.OurService,
    variables: Record<string, string>,
    isReady: ManagedProcessOptions['isReady'],
    where: string,
    context: StartContext,
    index = 0,
  ): Promise<void> {
    const started = performance.now();
    this.#current.env_files[name] = ours.envFileOf(this.#layout, name);
    const replica = replicaName(name, index);
    const managed = await ours.startOurs(replica, variables, isReady, context);
    const replicas = this.#managed.get(name) ?? [];
    replicas[index] = managed;
    this.#managed.set(name, replicas);
    this.#sayReady(replica, started, where);
  }

  async #stopParts(): Promise<void> {
    const stop = async (...names: ServiceName[]): Promise<void> => {
      const processes = names.flatMap((name) => this.#managed.get(name) ?? []);
      // RabbitMQ consists of two processes. The node needs epmd, so the node stops first.
      const [first, second] = [processes.filter((p) => p.name !== 'epmd'), processes.filter((p) => p.name === 'epmd')];
      await Promise.all(first.map((managed) => managed.stop()));
      await Promise.all(second.map((managed) => managed.stop()));
    };
    await stop('endpoint');
    await stop('api');
    await stop('workers');
    await stop('rabbitmq', 'temporal', 'postgres');
  }

  #sayReady(name: string, started: number, where: string): void {
    this.#say(`${name} ready (${((performance.now() - started) / 1000).toFixed(1)} s)${where}`);
  }

  get #current(): SystemState {
    if (this.#state === undefined) throw new Error('the system has not started yet');
    return this.#state;
  }

  #requireChosen(): ChosenPorts {
    if (this.#chosen === undefined) throw new Error('the ports are not chosen yet');
    return this.#chosen;
  }

  #setPhase(phase: SystemState['phase'], failure: string | null = null): void {
    if (this.#state === undefined) return;
    Object.assign(this.#state, { phase, failure });
    this.#writeState();
  }

  #writeState(): void {
    if (this.#state === undefined) return;
    const { ports } = this.#requireChosen();
    const portOf = {
      postgres: ports.postgres,
      temporal: ports.temporal,
      rabbitmq: ports.amqp,
      api: ports.api,
      workers: ports.workersHealth,
      endpoint: null,
    };
    const external = {
      postgres: this.#externals.databaseUrl,
      temporal: this.#externals.temporalAddress,
      rabbitmq: this.#externals.amqpUrl,
    };
    this.#state.services = SERVICE_NAMES.filter((name) => this.#has(name)).flatMap((name) => {
      const isExternal = external[name as EngineName] !== undefined;
      const replicaPorts = name === 'api' || name === 'workers' ? this.#ports[name] : [portOf[name]];
      return (replicaPorts.length > 0 ? replicaPorts : [portOf[name]]).map((port, index) => {
        const managed = this.#managed.get(name)?.[index];
        return {
          name: replicaName(name, index),
          pid: managed?.identity?.pid ?? null,
          port: isExternal ? null : port,
          external: isExternal,
          state: isExternal ? 'ready' : (managed?.state ?? 'starting'),
          log: isExternal ? null : logFileOf(this.#layout, replicaName(name, index)),
        };
      });
    });
    writeState(this.#layout, this.#state);
  }

  #has(name: ServiceName): boolean {
    if (name in ENGINE_PORTS) return true;
    if (this.#options.onlyEngines) return false;
    return name !== 'endpoint' || this.#options.endpoint;
  }
}

const replicaName = (name: ServiceName, index: number): ReplicaName => (index === 0 ? name : `${name}-${index + 1}`);

/** Like Promise.all, but the first failure aborts the other promises, and the function waits until all have settled. */
async function allOrAbort(work: Promise<unknown>[], abort: AbortController): Promise<void> {
  const failures: unknown[] = [];
  const watched = work.map((promise) =>
    promise.catch((error: unknown) => {
      failures.push(error);
      abort.abort(error);
    }),
  );
  await Promise.all(watched);
  if (failures.length > 0) throw ensureError(failures[0]);
}

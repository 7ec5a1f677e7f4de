import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';

import { connect, type Channel, type ChannelModel } from 'amqplib';
import type { Pool } from 'pg';

import { NOOP, type BenchClient } from '../../bench/bench-client';
import { millisecondsOf } from '../../bench/figures';
import { median } from '../../bench/measures';
import { attemptName, encodeFrame } from '../../contracts/frames';
import type { AgentRegistration } from '../../contracts/http/v1';
import { connectBenchClient } from '../helpers/bench';
import { cpuSecondsOf } from '../helpers/cpu';
import { printFigure } from '../helpers/figures';
import { Http, openStore, state } from '../helpers/system';
import { until } from '../helpers/until';

/** Many agents that do nothing but report, and endpoints whose windows are full: what they cost while nothing happens. */

const AGENTS = 300;
const FULL_WINDOWS = 30;
/** The default of `FUNCX_HEARTBEAT_PERIOD_S`. */
const PERIOD_S = 5;
const MEASURED_MS = 60_000;
const CALLS = 100;
/** Time between the starts of two calls: what a call leaves to be noted is noted before the next one. */
const CALL_PERIOD_MS = 250;
const MAX_CORES = 0.3;
const MAX_RATIO = 1.1;
/** Below this, a difference of the clock and the scheduler is larger than 10 %. */
const NOISE_MS = 3;

const http = new Http();
let store: Pool;
let client: BenchClient;
const agents: SimulatedAgent[] = [];

beforeAll(async () => {
  store = openStore();
  client = await connectBenchClient();
});
afterAll(async () => {
  await client?.close();
  await Promise.all(agents.map((agent) => agent.stop()));
  await store.end();
});

/** Registers as an agent does, reports over AMQP, and runs nothing. */
class SimulatedAgent {
  held: string[] = [];
  #timer: NodeJS.Timeout | undefined;
  #isStopped = false;
  readonly #incarnation: string;

  private constructor(
    private readonly registration: AgentRegistration,
    private readonly connection: ChannelModel,
    private readonly channel: Channel,
    incarnation: string,
  ) {
    this.#incarnation = incarnation;
  }

  get id(): string {
    return this.registration.endpoint_id;
  }

  static async start(index: number): Promise<SimulatedAgent> {
    const incarnation = randomUUID();
    const body = { name: `simulated-${index}-${incarnation.slice(0, 8)}`, incarnation, workers: 1, metadata: {} };
    const registration = (await http.ok('POST', '/v1/endpoints', body)) as AgentRegistration;
    const { url, ca } = registration.broker;
    const connection = await connect(`${url}?heartbeat=20`, ca === undefined ? {} : { ca: [ca] });
    const agent = new SimulatedAgent(registration, connection, await connection.createChannel(), incarnation);
    agent.report();
    // Spread over the period, as agents that started at different times are.
    agent.#timer = setTimeout(
      () => {
        agent.#timer = setInterval(() => agent.report(), PERIOD_S * 1_000);
      },
      Math.random() * PERIOD_S * 1_000,
    );
    return agent;
  }

  report(): void {
    const { exchange, routing_key } = this.registration.status;
    const frame = encodeFrame({
      message_type: 'ep_status_report',
      data: {
        endpoint_id: this.id,
        global_state: {
          heartbeat_period: PERIOD_S,
          active: true,
          incarnation: this.#incarnation,
          total_workers: 1,
          idle_workers: 1 - Math.min(1, this.held.length),
          held: this.held,
          running: this.held,
          sent_ms: Date.now(),
        },
        task_statuses: {},
      },
    });
    this.channel.publish(exchange, routing_key, Buffer.from(frame));
  }

  /** A second call does nothing. */
  async stop(): Promise<void> {
    if (this.#isStopped) return;
    this.#isStopped = true;
    clearTimeout(this.#timer);
    await this.connection.close();
  }
}

/** Of every process of the system, in cores. */
async function coresInUse(): Promise<Map<string, number>> {
  const cpu = (): Map<string, number> =>
    new Map(state().services.map(({ name, pid }) => [name, pid === null ? 0 : cpuSecondsOf([pid])]));
  const [before, startedMs] = [cpu(), Date.now()];
  await delay(MEASURED_MS); // the time without work is the subject
  const seconds = (Date.now() - startedMs) / 1_000;
  return new Map([...cpu()].map(([name, used]) => [name, (used - before.get(name)!) / seconds]));
}

const mean = (values: readonly number[]): number => values.reduce((all, one) => all + one, 0) / values.length;
const sum = (cores: Map<string, number>): number => [...cores.values()].reduce((all, one) => all + one, 0);

/** From the submit over HTTP to the result over AMQP, one call at a time. */
async function medianCallMs(functionId: string): Promise<number> {
  const tookMs: number[] = [];
  for (let n = 0; n < CALLS; n++) {
    const took = await millisecondsOf(async () => (await client.submit(functionId, 1))[0]);
    tookMs.push(took);
    await delay(Math.max(0, CALL_PERIOD_MS - took)); // the rate of the calls is part of the subject
  }
  return median(tookMs);
}

test('300 agents that report and 30 endpoints with full windows cost less than 0.3 of a core, and single calls stay as fast', async () => {
  const noop = await client.register('noop', NOOP);
  await client.warmUp(noop);
  await medianCallMs(noop); // code that has just been loaded costs several times as much
  const idleMs = [await medianCallMs(noop)];
  const idleCores = await coresInUse();

  for (let n = 0; n < AGENTS; n += 10) {
    agents.push(...(await Promise.all(Array.from({ length: 10 }, (_, index) => SimulatedAgent.start(n + index)))));
  }
  const full = agents.slice(0, FULL_WINDOWS);
  const ids = full.map(({ id }) => id);
  await until('every agent is online', async () => {
    const { rows } = await store.query('select 1 from endpoint_queues where id = any ($1) and is_online', [
      agents.map(({ id }) => id),
    ]);
    return rows.length === AGENTS;
  });
  await store.query('update endpoint_queues set window_floor = 1, window_size = 1, window_span_s = 0 where id = any ($1)', [ids]);
  for (const { id } of full) await http.submit(id, noop, [[], []]);
  await until('every window is full, and a task waits', async () => {
    const { rows } = await store.query<{ id: string; attempt: number; queue: string }>(
      `select id, attempt, endpoint_queue_id as queue from tasks where endpoint_queue_id = any ($1) and state in ('dispatched', 'running')`,
      [ids],
    );
    for (const { id, attempt, queue } of rows) {
      const agent = full.find((one) => one.id === queue);
      if (agent) agent.held = [attemptName(id, attempt)];
    }
    return rows.length === FULL_WINDOWS;
  });
  full.forEach((agent) => agent.report());
  await until('the workflow of each endpoint knows that it is online', async () => {
    const { rows } = await store.query(
      'select 1 from endpoint_queues where id = any ($1) and changed_at is distinct from signalled_at',
      [agents.map(({ id }) => id)],
    );
    return rows.length === 0;
  });
  const noPumps = async (): Promise<boolean> => {
    // An older mark is of a pump that was asked for while Temporal started 300 workflows, and that nobody waits for any more.
    const { rows } = await store.query(
      `select 1 from endpoint_queues where id = any ($1) and pump_alive_at > now() - interval '15 seconds'`,
      [ids],
    );
    return rows.length === 0;
  };
  await until('no pump runs at a full window', noPumps);

  const withAgents = await coresInUse();
  const cores = sum(withAgents) - sum(idleCores);
  const busyMs = await medianCallMs(noop);
  const parts = [...withAgents].map(([name, used]) => `${name} ${(used - idleCores.get(name)!).toFixed(3)}`).join(', ');
  printFigure(
    `idle: ${sum(idleCores).toFixed(2)} cores; ${AGENTS} agents and ${FULL_WINDOWS} full windows: ${cores.toFixed(2)} more (${parts})`,
  );
  // A machine gets faster or slower meanwhile: the time beside the agents is compared with those before and after it.
  await Promise.all(agents.map((agent) => agent.stop()));
  await Promise.all(full.map(({ id }) => http.ok('DELETE', `/v2/endpoints/${id}`)));
  await until(
    'the workflow of each endpoint knows that it is offline',
    async () => {
      const { rows } = await store.query(
        'select 1 from endpoint_queues where id = any ($1) and (is_online or changed_at is distinct from signalled_at)',
        [agents.slice(FULL_WINDOWS).map(({ id }) => id)],
      );
      return rows.length === 0;
    },
    { deadlineMs: 60_000 },
  );
  await medianCallMs(noop); // 300 workflows go to sleep
  idleMs.push(await medianCallMs(noop));
  const shown = idleMs.map((ms) => ms.toFixed(1)).join(' ms before and ');
  printFigure(`median of single calls: ${shown} ms after the agents, beside them ${busyMs.toFixed(1)} ms`);
  expect(cores).toBeLessThan(MAX_CORES);
  expect(busyMs).toBeLessThan(mean(idleMs) * MAX_RATIO + NOISE_MS);
}, 600_000);

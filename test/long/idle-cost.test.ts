import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';

import { connect, type Channel, type ChannelModel } from 'amqplib';
import type { Pool } from 'pg';

import { attemptName, encodeFrame } from '../../contracts/frames';
import type { AgentRegistration } from '../../contracts/http/v1';
import { cpuSecondsOf } from '../helpers/cpu';
import { printFigure } from '../helpers/figures';
import { Http, localEndpoint, openStore, state } from '../helpers/system';
import { until } from '../helpers/until';

/** Many agents that do nothing but report, and endpoints whose windows are full: what they cost while nothing happens. */

const AGENTS = 300;
const FULL_WINDOWS = 30;
/** The default of `FUNCX_HEARTBEAT_PERIOD_S`. */
const PERIOD_S = 5;
const MEASURED_MS = 30_000;
const CALLS = 60;
const MAX_CORES = 0.3;
const MAX_RATIO = 1.1;
/** Below this, a difference of the clock and the scheduler is larger than 10 %. */
const NOISE_MS = 3;

const http = new Http();
let store: Pool;
const agents: SimulatedAgent[] = [];

beforeAll(() => {
  store = openStore();
});
afterAll(async () => {
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

/** Of every process of the system. */
const cpuSeconds = (): number => cpuSecondsOf(state().services.flatMap(({ pid }) => (pid === null ? [] : [pid])));

async function coresInUse(): Promise<number> {
  const [before, startedMs] = [cpuSeconds(), Date.now()];
  await delay(MEASURED_MS); // the time without work is the subject
  return (cpuSeconds() - before) / ((Date.now() - startedMs) / 1_000);
}

async function medianCallMs(functionId: string): Promise<number> {
  const tookMs: number[] = [];
  for (let n = 0; n < CALLS; n++) {
    const startedMs = performance.now();
    const { taskIds } = await http.submit(localEndpoint(), functionId, [[n]]);
    await http.value(taskIds[0]!);
    tookMs.push(performance.now() - startedMs);
  }
  return tookMs.sort((a, b) => a - b)[CALLS / 2]!;
}

test('300 agents that report and 30 endpoints with full windows cost less than 0.3 of a core, and single calls stay as fast', async () => {
  const same = await http.register('same', '(n) => n', 'javascript');
  await medianCallMs(same); // warm
  const idleMs = await medianCallMs(same);
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
  for (const { id } of full) await http.submit(id, same, [[1], [2]]);
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
  const noPumps = async (): Promise<boolean> => {
    // An older mark is of a pump that was asked for while Temporal started 300 workflows, and that nobody waits for any more.
    const { rows } = await store.query(
      `select 1 from endpoint_queues where id = any ($1) and pump_alive_at > now() - interval '15 seconds'`,
      [ids],
    );
    return rows.length === 0;
  };
  await until('no pump runs at a full window', noPumps);

  const cores = (await coresInUse()) - idleCores;
  const busyMs = await medianCallMs(same);
  printFigure(`idle: ${idleCores.toFixed(2)} cores; ${AGENTS} agents and ${FULL_WINDOWS} full windows: ${cores.toFixed(2)} more`);
  printFigure(`median of single calls: ${idleMs.toFixed(1)} ms, beside them ${busyMs.toFixed(1)} ms`);
  expect(cores).toBeLessThan(MAX_CORES);
  expect(busyMs).toBeLessThan(idleMs * MAX_RATIO + NOISE_MS);
  await Promise.all(full.map((agent) => agent.stop()));
  await Promise.all(full.map(({ id }) => http.ok('DELETE', `/v2/endpoints/${id}`)));
}, 400_000);

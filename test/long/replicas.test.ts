import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { Pool } from 'pg';

import { layoutOf } from '../../local/machine/layout';
import { readJson } from '../../local/machine/files';
import { readState, type SystemState } from '../../local/setup/state';
import { Client } from '../../sdk';
import { startLoad, type Load } from '../helpers/continuous-load';
import { printFigure } from '../helpers/figures';
import { until } from '../helpers/until';

/** Two processes of `api` and two of `workers`: each is restarted in turn, then killed in turn, under load. */

const MAIN = join(__dirname, '..', '..', 'dist', 'local', 'main.js');
const REPLICAS = ['api', 'api-2', 'workers', 'workers-2'] as const;
const PROBE_MS = 20;
/** Beside what a restart costs that hands over: a process that starts takes the CPU from the others on a small machine. */
const LONGEST_GAP_MS = 2_000;
/** Three AMQP heartbeats of a service, until the broker gives what a stopped process holds to another, and the tasks themselves. */
const LONGEST_STANDSTILL_MS = 20_000;
const API_KILLS = 8;
/** The time in which an answer that was held up would arrive. */
const OBSERVED_MS = 12_000;

const dataDir = mkdtempSync(join(tmpdir(), 'funcx-replicas-'));
let store: Pool;
let client: Client;
/** What still runs when a test fails in the middle. */
const endings: (() => unknown)[] = [];

/** Not synchronous: the load goes on meanwhile. */
async function run(...args: string[]): Promise<void> {
  const child = spawn(process.execPath, [MAIN, ...args, '--data-dir', dataDir], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, FUNCX_WORKER_USER: 'same' },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (output += text));
  const status = await new Promise<number | null>((resolve) => child.once('close', resolve));
  if (status !== 0) throw new Error(`funcx ${args.join(' ')} failed: ${output}`);
}

function state(): SystemState {
  const now = readState(layoutOf(dataDir));
  if (!now) throw new Error('the system has no state');
  return now;
}

beforeAll(async () => {
  await run('up', '--detach', '--private-ports', '--api', '2', '--workers', '2');
  const { DATABASE_URL } = readJson(state().env_files.api ?? '') as { DATABASE_URL: string };
  store = new Pool({ connectionString: DATABASE_URL, max: 2 });
  const { client_id, client_secret } = readJson(state().identity_file) as { client_id: string; client_secret: string };
  client = new Client({
    apiUrl: state().api_url,
    clientId: client_id,
    clientSecret: client_secret,
    ca: state().ca_file ?? undefined,
  });
}, 240_000);
afterAll(async () => {
  endings.forEach((end) => void end());
  client?.close();
  await store?.end();
  await run('down');
  rmSync(dataDir, { recursive: true, force: true });
}, 120_000);

/** A connection of its own for each request, and no repeat. */
function startProbing(): { failures: string[]; stop: () => number } {
  const failures: string[] = [];
  let answered = 0;
  const timer = setInterval(() => {
    const probe = request(`${state().api_url}/v2/version`, { agent: false }, (response) => {
      response.resume();
      answered++;
      if (response.statusCode !== 200) failures.push(`status ${response.statusCode}`);
    });
    probe.on('error', (error) => failures.push(error.message));
    probe.end();
  }, PROBE_MS);
  endings.push(() => clearInterval(timer));
  return {
    failures,
    stop: () => {
      clearInterval(timer);
      return answered;
    },
  };
}

/** What still runs when a test fails in the middle is ended at the end. */
function start(): Load {
  const load = startLoad({ client, store, endpointId: state().endpoint?.id ?? '' });
  endings.push(() => load.abandon());
  return load;
}

/** Ends the load: every call has its own value, and the store has as many tasks as calls were sent. */
async function expectEachOnce(load: Load): Promise<void> {
  const { sent, wrong, groupId } = await load.stop();
  printFigure(`${sent} calls`);
  expect(wrong).toBe(0);
  const { rows } = await store.query('select count(*)::int as n from tasks where task_group_id = $1', [groupId]);
  expect(rows).toEqual([{ n: sent }]);
}

test('no connection is refused while each process restarts in turn, and nothing is lost or doubled when each is killed', async () => {
  expect(state().services.map(({ name }) => name)).toEqual(expect.arrayContaining([...REPLICAS]));
  const load = start();
  const probes = startProbing();
  let handedOverMs = 0;
  for (const service of ['api', 'workers']) {
    load.longestGapMs();
    await run('restart', service);
    const gapMs = load.longestGapMs();
    printFigure(`longest time without an answer while ${service} restarted: ${gapMs} ms`);
    expect(gapMs).toBeLessThan(LONGEST_GAP_MS);
    handedOverMs = Math.max(handedOverMs, gapMs);
  }
  expect(probes.failures).toEqual([]); // each over a connection of its own
  expect(probes.stop()).toBeGreaterThan(100);

  for (const name of REPLICAS) {
    const before = state().services.find((one) => one.name === name)?.pid;
    if (!before) throw new Error(`${name} does not run`);
    load.longestGapMs();
    process.kill(before, 'SIGKILL');
    await until(
      `${name} serves again`,
      () => state().services.some((one) => one.name === name && one.pid !== before && one.state === 'ready'),
      { deadlineMs: 60_000 },
    );
    await load.answersComeAfter(Date.now());
    const gapMs = load.longestGapMs();
    printFigure(`longest time without an answer after kill -9 of ${name}: ${gapMs} ms`);
    expect(gapMs).toBeLessThan(LONGEST_GAP_MS + handedOverMs);
  }
  await expectEachOnce(load);
}, 400_000);

test('of two api, one that is killed with calls that it has not dispatched keeps them and all others waiting for less than 2 s', async () => {
  const loads = [start(), start(), start()];
  const gaps: number[] = [];
  for (let round = 0; round < API_KILLS; round++) {
    const name = round % 2 === 0 ? 'api' : 'api-2';
    const before = state().services.find((one) => one.name === name)?.pid;
    if (!before) throw new Error(`${name} does not run`);
    await Promise.all(loads.map((load) => load.answersComeAfter(Date.now())));
    loads.forEach((load) => load.longestGapMs());
    const killedMs = Date.now();
    process.kill(before, 'SIGKILL');
    await until(
      `${name} serves again`,
      () => state().services.some((one) => one.name === name && one.pid !== before && one.state === 'ready'),
      { deadlineMs: 60_000 },
    );
    // A load sends its next calls when it has all answers, so each one soon waits for a call that was held up.
    while (Date.now() < killedMs + OBSERVED_MS) await sleep(100);
    await Promise.all(loads.map((load) => load.answersComeAfter(Date.now())));
    gaps.push(Math.max(...loads.map((load) => load.longestGapMs())));
  }
  printFigure(`longest time that one of three loads waited after each kill of an api: ${gaps.join(', ')} ms`);
  expect(Math.max(...gaps)).toBeLessThan(LONGEST_GAP_MS);
  for (const load of loads) await expectEachOnce(load);
}, 400_000);

test('of two workers, one that stands still holds its calls up only until the broker drops it, and none is lost or doubled', async () => {
  const load = start();
  for (const name of ['workers', 'workers-2']) {
    const pid = state().services.find((one) => one.name === name)?.pid;
    if (!pid) throw new Error(`${name} does not run`);
    await load.answersComeAfter(Date.now());
    load.longestGapMs();
    process.kill(pid, 'SIGSTOP');
    try {
      // The one that gets no results may be the one that stopped: then nothing waits at all.
      await sleep(LONGEST_STANDSTILL_MS);
      await load.answersComeAfter(Date.now());
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    const gapMs = load.longestGapMs();
    printFigure(`longest time without an answer while ${name} stood still: ${gapMs} ms`);
    expect(gapMs).toBeLessThan(LONGEST_STANDSTILL_MS);
  }
  await expectEachOnce(load);
}, 400_000);

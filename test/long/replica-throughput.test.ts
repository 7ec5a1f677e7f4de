import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';

import { NOOP, type BenchClient } from '../../bench/bench-client';
import { median } from '../../bench/measures';
import { submitAll } from '../../bench/throughput';
import { ApiProcess } from '../helpers/api-process';
import { connectBenchClient } from '../helpers/bench';
import { cpuSecondsOf } from '../helpers/cpu';
import { printFigure } from '../helpers/figures';
import { dataDir, serviceEnv, state } from '../helpers/system';
import { startWorkers } from '../helpers/workers-process';

/**
 * One system, in turn with one `api` and one `workers` and with two of each. A machine gets faster or slower meanwhile: each
 * figure of two is compared with those of one before and after it.
 */

const ROUNDS = 5;
const MEASURED = { batches: 10, batch: 500 };
/** As many tasks in many more requests: code that has just been loaded costs several times as much. */
const WARM_UP = { batches: 30, batch: 50 };
const WARM_UPS = 4;
const LEAST_RATIO = 0.95;

let second: { api: ApiProcess; workers: ChildProcess } | undefined;
let clients: BenchClient[] = [];

afterAll(async () => {
  await closeClients();
  await stopSecond();
});

async function startSecond(): Promise<string> {
  const api = await ApiProcess.start();
  second = { api, workers: await startWorkers(serviceEnv('workers'), join(dataDir(), 'logs')) };
  return api.apiUrl;
}

async function stopSecond(): Promise<void> {
  if (!second) return;
  const { api, workers } = second;
  second = undefined;
  const gone = new Promise((resolve) => workers.once('exit', resolve));
  workers.kill('SIGTERM');
  await Promise.all([api.stop(), gone]);
}

async function closeClients(): Promise<void> {
  await Promise.all(clients.map((client) => client.close()));
  clients = [];
}

/** CPU time of each part so far. */
function cpuNow(): Map<string, number> {
  const used = new Map<string, number>(state().services.map(({ name, pid }) => [name, pid === null ? 0 : cpuSecondsOf([pid])]));
  const add = (name: string, pid: number): Map<string, number> => used.set(name, (used.get(name) ?? 0) + cpuSecondsOf([pid]));
  if (second) add('api', second.api.pid);
  if (second?.workers.pid !== undefined) add('workers', second.workers.pid);
  return used;
}

interface Measured {
  /** Tasks a second. */
  rate: number;
  /** CPU time of all parts together for a task, in milliseconds. */
  cpuMs: number;
  /** For people. */
  text: string;
}

/** Two submitters, each at an address of its own. */
async function measure(apiUrls: readonly [string, string], { batches, batch }: typeof MEASURED): Promise<Measured> {
  for (const apiUrl of apiUrls) clients.push(await connectBenchClient(apiUrl));
  const functionId = await clients[0]!.register('noop', NOOP);
  for (const client of clients) await client.warmUp(functionId);
  await Promise.all(clients.map((client) => submitAll(client, functionId, 1, batch)));
  const [startedMs, before] = [performance.now(), cpuNow()];
  await Promise.all(clients.map((client) => submitAll(client, functionId, batches, batch)));
  const tasks = 2 * batches * batch;
  const rate = (tasks * 1_000) / (performance.now() - startedMs);
  const used = [...cpuNow()].map(([name, seconds]) => [name, ((seconds - (before.get(name) ?? 0)) / tasks) * 1_000] as const);
  await closeClients();
  const cpuMs = used.reduce((sum, [, ms]) => sum + ms, 0);
  const parts = used.map(([name, ms]) => `${name} ${ms.toFixed(2)}`).join(', ');
  return { rate, cpuMs, text: `${rate.toFixed(0)} tasks/s, ${cpuMs.toFixed(2)} ms of CPU for a task (${parts})` };
}

test('two of each process are as fast as one of each, within 5 %', async () => {
  const only = state().api_url;
  const figures: Record<'one' | 'two', Measured[]> = { one: [], two: [] };
  const round = async (kind: 'one' | 'two', apiUrls: readonly [string, string]): Promise<void> => {
    for (let n = 0; n < WARM_UPS; n++) await measure(apiUrls, WARM_UP);
    const measured = await measure(apiUrls, MEASURED);
    figures[kind].push(measured);
    printFigure(`${kind} of each: ${measured.text}`);
  };
  await round('one', [only, only]);
  for (let n = 0; n < ROUNDS; n++) {
    await round('two', [only, await startSecond()]);
    await stopSecond();
    await round('one', [only, only]);
  }
  const { one, two } = figures;
  const ratio = (of: (figure: Measured) => number): number =>
    median(two.map((figure, n) => (2 * of(figure)) / (of(one[n]!) + of(one[n + 1]!))));
  const rates = ratio(({ rate }) => rate);
  printFigure(`two of each beside one of each: rate ${rates.toFixed(2)}, CPU ${ratio(({ cpuMs }) => cpuMs).toFixed(2)}`);
  expect(rates).toBeGreaterThanOrEqual(LEAST_RATIO);
}, 900_000);

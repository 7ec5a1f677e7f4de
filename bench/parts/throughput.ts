import { BenchClient, NOOP } from '../bench-client';
import { millisecondsOf } from '../figures';
import { inTurn, OURS, type Measure } from '../measures';
import { startPeers, type PeerName, type PeerRequest } from '../peers';
import { startPlainTemporal } from '../temporal';
import { submitAll, submitConcurrently } from '../throughput';
import type { Part } from './part';

/** Tasks per second with all durable settings, compared with the peers. */

const LARGE = 1_000;
const BATCH = 128;
const CLIENTS = 50;
const SINGLE_BATCHES = 5;
/** Workflows with one activity each in one round. The server completes only a few tens of them per second. */
const TEMPORAL_CALLS = 100;

export const throughputPart: Part = async ({ system, scale, say }) => {
  const peers = await startPeers(system, ['Celery', 'Parsl HTEX', 'Dask'], say);
  const temporal = await startPlainTemporal(system.temporalAddress);
  const clients: BenchClient[] = [];
  try {
    for (let n = 0; n < CLIENTS; n++) clients.push(await BenchClient.connect(system));
    const [first] = clients;
    if (!first) throw new Error('no client was made');
    const functionId = await first.register('noop', NOOP);
    for (const client of clients) await client.warmUp(functionId);
    const singles = async (ofClient: (n: number) => BenchClient): Promise<void> => {
      await Promise.all(
        Array.from({ length: CLIENTS }, async (_, n) => {
          for (let call = 0; call < scale.callsPerClient; call++) await (await ofClient(n).submit(functionId, 1))[0];
        }),
      );
    };
    const rateOf = async (tasks: number, work: () => Promise<unknown>): Promise<number> =>
      (tasks / (await millisecondsOf(work))) * 1_000;
    const peer = (name: PeerName, tasks: number, request: PeerRequest) => async (): Promise<number> =>
      tasks / (await peers.get(name).measure(request));
    const measures: Measure[] = [];
    const measure = async (
      what: string,
      target: number | undefined,
      tasks: number,
      own: () => Promise<unknown>,
      request: PeerRequest,
      others: readonly PeerName[],
      more: Record<string, () => Promise<number>> = {},
    ): Promise<void> => {
      say(what);
      const contenders: Record<string, () => Promise<number>> = { [OURS]: () => rateOf(tasks, own) };
      for (const name of others) contenders[name] = peer(name, tasks, request);
      const rounds = await inTurn(scale.rounds, { ...contenders, ...more }, say);
      measures.push({
        part: 'throughput',
        what,
        unit: 'tasks/s',
        rounds,
        reference: 'Celery',
        ...(target === undefined ? {} : { target: { atLeast: target } }),
      });
    };

    await submitAll(first, functionId, 1, LARGE); // the window grows to fit the rate
    const { submissions, callsPerClient } = scale;
    await measure(
      `submissions of ${LARGE}`,
      3,
      submissions * LARGE,
      () => submitAll(first, functionId, submissions, LARGE),
      { kind: 'submitters', count: 1, batches: submissions, tasks: LARGE },
      ['Celery', 'Parsl HTEX', 'Dask'],
    );
    await measure(
      `${CLIENTS} submitters of ${BATCH}`,
      2.5,
      CLIENTS * BATCH,
      () => submitConcurrently(CLIENTS, first, functionId, 1, BATCH),
      { kind: 'submitters', count: CLIENTS, batches: 1, tasks: BATCH },
      ['Celery'],
    );
    await measure(
      `one submitter of ${BATCH}`,
      1.5,
      SINGLE_BATCHES * BATCH,
      () => submitAll(first, functionId, SINGLE_BATCHES, BATCH),
      { kind: 'submitters', count: 1, batches: SINGLE_BATCHES, tasks: BATCH },
      ['Celery'],
    );
    const singleCalls = { kind: 'singles', count: CLIENTS, calls: callsPerClient } as const;
    const calls = CLIENTS * callsPerClient;
    await measure(
      `${CLIENTS} clients of one group, single calls`,
      1,
      calls,
      () => singles(() => first),
      singleCalls,
      ['Celery', 'Parsl HTEX', 'Dask'],
      {
        'a Temporal activity per call': () =>
          rateOf(TEMPORAL_CALLS, () => concurrently(CLIENTS, TEMPORAL_CALLS, temporal.runActivity)),
      },
    );
    await measure(
      `${CLIENTS} clients of ${CLIENTS} groups, single calls`,
      undefined,
      calls,
      () => singles((n) => clients[n] ?? first),
      singleCalls,
      ['Celery'],
    );
    return measures;
  } finally {
    for (const client of clients) await client.close();
    await temporal.close();
    await peers.close();
  }
};

async function concurrently(limit: number, count: number, work: () => Promise<void>): Promise<void> {
  let left = count;
  await Promise.all(
    Array.from({ length: limit }, async () => {
      while (left-- > 0) await work();
    }),
  );
}

import { BenchClient, NOOP } from './bench-client';
import { millisecondsOf, print, round } from './figures';
import { machine, type MeasuredSystem } from './system';

/** Tasks per second of a Python function that does nothing, from HTTP request to AMQP result, with the default settings. */

const SMALL = 128;

export interface ThroughputOptions {
  tasks: number;
  submitters: number;
  rounds: number;
  json: boolean;
}

/** Sends several submissions of `tasks` tasks without waiting for results in between, then waits for all results. */
export async function submitAll(client: BenchClient, functionId: string, submissions: number, tasks: number): Promise<void> {
  const results: Promise<unknown>[] = [];
  for (let n = 0; n < submissions; n++) results.push(...(await client.submit(functionId, tasks)));
  await Promise.all(results);
}

/** Does {@link submitAll} several times at once. */
export const submitConcurrently = (count: number, ...work: Parameters<typeof submitAll>): Promise<unknown> =>
  Promise.all(Array.from({ length: count }, () => submitAll(...work)));

export async function throughput(system: MeasuredSystem, options: ThroughputOptions): Promise<void> {
  const client = await BenchClient.connect(system);
  try {
    const functionId = await client.register('noop', NOOP);
    await client.warmUp(functionId);
    const rate = async (tasks: number, work: () => Promise<unknown>): Promise<number> =>
      round((tasks / (await millisecondsOf(work))) * 1000, 0);

    await submitAll(client, functionId, 1, SMALL); // warm-up
    const { tasks, submitters: count, rounds } = options;
    const large = await rate(tasks * rounds, () => submitAll(client, functionId, rounds, tasks));
    const many = await rate(count * SMALL, () => submitConcurrently(count, client, functionId, 1, SMALL));
    const one = await rate(rounds * SMALL, () => submitAll(client, functionId, rounds, SMALL));
    if (options.json) {
      console.log(JSON.stringify({ large_batches: large, many_submitters: many, one_submitter: one, unit: 'tasks/s' }));
      return;
    }
    print([
      ['system', `${system.origin}; ${machine()}; endpoint "${system.endpointName}"`],
      [`${rounds} submissions of ${tasks}`, `${large} tasks/s`],
      [`${count} concurrent submitters of ${SMALL}`, `${many} tasks/s`],
      [`one submitter, ${rounds} of ${SMALL}`, `${one} tasks/s`],
    ]);
  } finally {
    await client.close();
  }
}

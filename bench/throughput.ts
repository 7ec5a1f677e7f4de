import { BenchClient, NOOP } from './bench-client';
import { millisecondsOf, print, round } from './figures';
import { machine, type MeasuredSystem } from './system';

/** Rates of no-op Python functions, from HTTP request to AMQP result, with all durable settings on. */

const BATCH = 128;

export interface ThroughputOptions {
  tasks: number;
  submitters: number;
  rounds: number;
  json: boolean;
}

/** Submits batches of calls that do nothing, one after another without waiting for results in between, then waits for all. */
export async function submitter(client: BenchClient, functionId: string, batches: number, tasks: number): Promise<void> {
  const results: Promise<unknown>[] = [];
  for (let n = 0; n < batches; n++) results.push(...(await client.submit(functionId, tasks)));
  await Promise.all(results);
}

/** Runs several submitters at the same time. */
export const submitters = (count: number, ...work: Parameters<typeof submitter>): Promise<unknown> =>
  Promise.all(Array.from({ length: count }, () => submitter(...work)));

export async function throughput(system: MeasuredSystem, options: ThroughputOptions): Promise<void> {
  const client = await BenchClient.connect(system);
  try {
    const functionId = await client.register('noop', NOOP);
    await client.warmUp(functionId);
    const rate = async (tasks: number, work: () => Promise<unknown>): Promise<number> =>
      round((tasks / (await millisecondsOf(work))) * 1000, 0);

    await submitter(client, functionId, 1, BATCH); // warm-up
    const { tasks, submitters: count, rounds } = options;
    const large = await rate(tasks * rounds, () => submitter(client, functionId, rounds, tasks));
    const many = await rate(count * BATCH, () => submitters(count, client, functionId, 1, BATCH));
    const one = await rate(rounds * BATCH, () => submitter(client, functionId, rounds, BATCH));
    if (options.json) {
      console.log(JSON.stringify({ large_batches: large, many_submitters: many, one_submitter: one, unit: 'tasks/s' }));
      return;
    }
    print([
      ['system', `${system.origin}; ${machine()}; endpoint "${system.endpointName}"`],
      [`${rounds} submissions of ${tasks}`, `${large} tasks/s`],
      [`${count} concurrent submitters of ${BATCH}`, `${many} tasks/s`],
      [`one submitter, ${rounds} of ${BATCH}`, `${one} tasks/s`],
    ]);
  } finally {
    await client.close();
  }
}

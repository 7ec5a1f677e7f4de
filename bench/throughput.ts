import { BenchClient } from './client';
import { print, round } from './figures';
import { machine, type MeasuredSystem } from './system';

/** Rates of no-op Python functions, from HTTP request to AMQP result, with all durable settings on. */

const SOURCE = 'def noop():\n    return None\n';
const BATCH = 128;

export interface ThroughputOptions {
  tasks: number;
  submitters: number;
  rounds: number;
  json: boolean;
}

export async function throughput(system: MeasuredSystem, options: ThroughputOptions): Promise<void> {
  const client = await BenchClient.connect(system);
  try {
    const functionId = await client.register('noop', SOURCE);
    await client.warmUp(functionId);

    /** Submits batches one after another without waiting for results in between, then waits for all results. */
    const submitter = async (batches: number, size: number): Promise<void> => {
      const results: Promise<unknown>[] = [];
      for (let n = 0; n < batches; n++) results.push(...(await client.submit(functionId, size)));
      await Promise.all(results);
    };
    const rate = async (tasks: number, work: () => Promise<unknown>): Promise<number> => {
      const begun = performance.now();
      await work();
      return round((tasks / (performance.now() - begun)) * 1000, 0);
    };

    await submitter(1, BATCH); // warm-up
    const { tasks, submitters, rounds } = options;
    const large = await rate(tasks * rounds, () => submitter(rounds, tasks));
    const many = await rate(submitters * BATCH, () => Promise.all(Array.from({ length: submitters }, () => submitter(1, BATCH))));
    const one = await rate(rounds * BATCH, () => submitter(rounds, BATCH));
    if (options.json) {
      console.log(JSON.stringify({ large_batches: large, many_submitters: many, one_submitter: one, unit: 'tasks/s' }));
      return;
    }
    print([
      ['system', `${system.origin}; ${machine()}; endpoint "${system.endpointName}"`],
      [`${rounds} submissions of ${tasks}`, `${large} tasks/s`],
      [`${submitters} submitters of ${BATCH} at once`, `${many} tasks/s`],
      [`one submitter, ${rounds} of ${BATCH}`, `${one} tasks/s`],
    ]);
  } finally {
    await client.close();
  }
}

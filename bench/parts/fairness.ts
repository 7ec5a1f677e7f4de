import { BenchAgent } from '../agent';
import { BenchClient, NOOP } from '../bench-client';
import { millisecondsOf, percentile, round } from '../figures';
import { OURS, type Measure } from '../measures';
import type { PartContext, Part } from './part';

/**
 * Owners on one public endpoint: the latency of single calls of one owner while the backlog of another owner is processed, and how
 * far apart owners with equal work finish.
 */

const OWNERS = 10;
const TASKS_PER_SUBMISSION = 1_000;
const MIN_CALLS = 20;

export const fairnessPart: Part = async (context) => {
  const { system, scale, say } = context;
  const admin = await BenchClient.connect(system);
  const agent = new BenchAgent(system, admin, 'fairness', { FUNCX_ENDPOINT_PUBLIC: '1' });
  const owners: Owner[] = [];
  try {
    await agent.start();
    const { endpointId } = agent;
    for (let n = 0; n < OWNERS; n++) owners.push(await createOwner(context, admin, n, endpointId));
    const [small, large] = owners;
    if (!small || !large) throw new Error('OWNERS must be at least 2');

    const time = (): Promise<number> =>
      millisecondsOf(async () => (await small.client.submit(small.functionId, 1, { endpointId }))[0]);
    const idle: number[] = [];
    for (let n = 0; n < scale.latencyCalls; n++) idle.push(await time());
    say(`single calls of one owner alone: p95 ${round(percentile(idle, 0.95))} ms`);

    const drained: Promise<unknown>[] = [];
    for (let n = 0; n < scale.drainTasks; n += TASKS_PER_SUBMISSION) {
      drained.push(
        ...(await large.client.submit(large.functionId, Math.min(TASKS_PER_SUBMISSION, scale.drainTasks - n), { endpointId })),
      );
    }
    let isDrained = false;
    const drain = Promise.all(drained).then(() => (isDrained = true));
    const beside: number[] = [];
    while (!isDrained) {
      const ms = await time();
      if (!isDrained) beside.push(ms);
    }
    await drain;
    if (beside.length < MIN_CALLS) say(`only ${beside.length} single calls fitted beside the drain; measure with more tasks`);
    else say(`beside the drain of another owner: p95 ${round(percentile(beside, 0.95))} ms of ${beside.length} calls`);

    const spread = await spreadOfEnds(context, owners, endpointId);
    const measures: Measure[] = [
      {
        part: 'fairness',
        what: 'single calls beside the backlog of another owner, p95',
        unit: 'ms',
        rounds: { [OURS]: [percentile(beside, 0.95)], 'the same, idle': [percentile(idle, 0.95)] },
        reference: 'the same, idle',
        target: { atMost: 3 }, // of the ratio
      },
      {
        part: 'fairness',
        what: `${OWNERS} owners with equal work: time between the first and the last end, of the whole time`,
        unit: '%',
        rounds: { [OURS]: [round(spread)] },
        target: { atMost: 10 },
      },
    ];
    return measures;
  } finally {
    for (const { client } of owners) await client.close();
    await agent.remove();
    await admin.close();
  }
};

interface Owner {
  client: BenchClient;
  functionId: string;
}

async function createOwner({ system }: PartContext, admin: BenchClient, n: number, endpointId: string): Promise<Owner> {
  const credentials = await admin.createIdentity(`bench-${Date.now()}-${n}`);
  const client = await BenchClient.connect(system, credentials);
  const functionId = await client.register('noop', NOOP);
  await client.warmUp(functionId, { endpointId });
  return { client, functionId };
}

/** How much later the last owner ends than the first, in percent of the time of the last owner. */
async function spreadOfEnds({ scale, say }: PartContext, owners: readonly Owner[], endpointId: string): Promise<number> {
  const begun = performance.now();
  const ends = await Promise.all(
    owners.map(async ({ client, functionId }) => {
      await Promise.all(await client.submit(functionId, scale.tasksPerOwner, { endpointId }));
      return performance.now() - begun;
    }),
  );
  const [first, last] = [Math.min(...ends), Math.max(...ends)];
  say(`${owners.length} owners ended between ${round(first / 1_000)} and ${round(last / 1_000)} s`);
  return ((last - first) / last) * 100;
}

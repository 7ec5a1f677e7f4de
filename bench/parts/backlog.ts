import { BenchAgent } from '../agent';
import { BenchClient, NOOP } from '../bench-client';
import { millisecondsOf, round } from '../figures';
import { OURS, type Measure } from '../measures';
import { usageOf } from '../usage';
import type { Part } from './part';

/** Tasks for an offline endpoint: the rate of acceptance, the memory of each process, and the drain when the agent returns. */

const SUBMISSION = 1_000;
const TENTHS = 10;

export const backlogPart: Part = async ({ system, scale, say }) => {
  const client = await BenchClient.connect(system);
  const agent = new BenchAgent(system, client, 'backlog');
  try {
    const functionId = await client.register('noop', NOOP);
    await agent.start();
    const { endpointId } = agent;
    await client.warmUp(functionId, { endpointId });
    await agent.stop();

    const before = usageOf(system);
    const results: Promise<unknown>[] = [];
    const rates: number[] = [];
    const perTenth = scale.backlogTasks / TENTHS;
    for (let tenth = 1; tenth <= TENTHS; tenth++) {
      const ms = await millisecondsOf(async () => {
        for (let n = 0; n < perTenth; n += SUBMISSION)
          results.push(...(await client.submit(functionId, SUBMISSION, { endpointId })));
      });
      rates.push((perTenth / ms) * 1_000);
      say(`${results.length} of ${scale.backlogTasks} accepted, ${round(rates.at(-1) ?? 0, 0)} tasks/s`);
    }
    const after = usageOf(system);
    const growth = [...after].map(([name, usage]) => [name, usage.memoryMb - (before.get(name)?.memoryMb ?? 0)] as const);

    let answered = 0;
    const counted = results.map(async (result) => {
      await result;
      answered++;
    });
    const timer = setInterval(() => say(`${answered} of ${results.length} answered`), 5_000);
    const ms = await millisecondsOf(async () => {
      await agent.start();
      await Promise.all(counted);
    }).finally(() => clearInterval(timer));

    const shared = { part: 'backlog' };
    const [first = 0, last = 0] = [rates[0], rates.at(-1)];
    const measures: Measure[] = [
      {
        ...shared,
        what: 'last tenth beside the first',
        unit: 'accepted tasks/s',
        rounds: { [OURS]: [last], 'the first tenth': [first] },
        reference: 'the first tenth',
        target: { atLeast: 0.8 },
      },
      ...growth.map(([name, mb]) => ({
        ...shared,
        what: `growth of ${name} with ${results.length.toLocaleString('en')} waiting tasks`,
        unit: 'MB',
        rounds: { [OURS]: [round(mb)] },
        ...(OUR_PROCESSES.test(name) ? { target: { atMost: 50 } } : {}),
      })),
      {
        ...shared,
        what: 'drain, with the start of the agent',
        unit: 'tasks/s',
        rounds: { [OURS]: [(results.length / ms) * 1_000] },
      },
    ];
    return measures;
  } finally {
    await agent.remove();
    await client.close();
  }
};

/** PostgreSQL and Temporal keep the tasks, so they may grow. */
const OUR_PROCESSES = /^(api|workers|endpoint|rabbitmq)/;

import { BenchClient, ECHO } from '../bench-client';
import { millisecondsOf, percentile } from '../figures';
import { inTurn, OURS, type Measure } from '../measures';
import { startPeers } from '../peers';
import type { Part } from './part';

/** The time of a call that returns its argument, for several sizes of the argument. */

const CALLS = 5;

export const payloadPart: Part = async ({ system, scale, say }) => {
  const peers = await startPeers(system, ['Celery'], say);
  const client = await BenchClient.connect(system);
  try {
    const functionId = await client.register('echo', ECHO);
    const measures: Measure[] = [];
    await client.warmUp(functionId, { args: ['x'] });
    for (const bytes of scale.payloadBytes) {
      const args = ['x'.repeat(bytes)];
      const own = (): Promise<number> => millisecondsOf(async () => (await client.submit(functionId, 1, { args }))[0]);
      const celery = async (): Promise<number> => 1_000 * (await peers.get('Celery').measure({ kind: 'echo', bytes }));
      const typical = async (call: () => Promise<number>): Promise<number> => {
        const times: number[] = [];
        for (let n = 0; n < CALLS; n++) times.push(await call());
        return percentile(times, 0.5);
      };
      say(`${bytes} bytes`);
      const rounds = await inTurn(scale.rounds, { [OURS]: () => typical(own), Celery: () => typical(celery) }, say);
      const what = `argument and value of ${bytes.toLocaleString('en')} bytes, p50`;
      measures.push({ part: 'payload', what, unit: 'ms', rounds, reference: 'Celery' });
    }
    return measures;
  } finally {
    await client.close();
    await peers.close();
  }
};

import { BenchClient, NOOP } from '../bench-client';
import { millisecondsOf, percentile } from '../figures';
import { OURS, type Measure } from '../measures';
import { PEERS, startPeers } from '../peers';
import { startPlainTemporal } from '../temporal';
import type { Part } from './part';

/** One warm call at a time, in turn with the same call of each peer. */

const WARM_UP = 20;
const EMPTY = 'an empty Temporal workflow';
const ACTIVITY = 'a Temporal activity per call';

export const latencyPart: Part = async ({ system, scale, say }) => {
  const peers = await startPeers(system, PEERS, say);
  const temporal = await startPlainTemporal(system.temporalAddress);
  const client = await BenchClient.connect(system);
  try {
    const functionId = await client.register('noop', NOOP);
    await client.warmUp(functionId);
    const contenders: Record<string, () => Promise<number>> = {
      [OURS]: () => millisecondsOf(async () => (await client.submit(functionId, 1))[0]),
      [EMPTY]: () => millisecondsOf(temporal.runEmpty),
      [ACTIVITY]: () => millisecondsOf(temporal.runActivity),
    };
    for (const name of PEERS) {
      contenders[name] = async () => 1_000 * (await peers.get(name).measure({ kind: 'singles', count: 1, calls: 1 }));
    }
    const p50: Record<string, number[]> = {};
    const p95: Record<string, number[]> = {};
    for (let round = 0; round < scale.rounds; round++) {
      const times = new Map<string, number[]>(Object.keys(contenders).map((who) => [who, []]));
      for (let n = round === 0 ? -WARM_UP : 0; n < scale.latencyCalls; n++) {
        for (const [who, call] of Object.entries(contenders)) {
          const time = await call();
          if (n >= 0) times.get(who)?.push(time);
        }
      }
      for (const [who, values] of times) {
        (p50[who] ??= []).push(percentile(values, 0.5));
        (p95[who] ??= []).push(percentile(values, 0.95));
      }
      const shown = [...times].map(([who, values]) => `${who} ${percentile(values, 0.5).toFixed(1)} ms`).join(', ');
      say(`round ${round + 1} of ${scale.rounds}, p50: ${shown}`);
    }
    // The target of the p95 is relative to the p50 of the empty workflow as well.
    const tail = { [OURS]: p95[OURS] ?? [], [`p50 of ${EMPTY}`]: p50[EMPTY] ?? [] };
    const shared = { part: 'latency', unit: 'ms' };
    const measures: Measure[] = [
      { ...shared, what: 'one warm call, p50', rounds: p50, reference: EMPTY, target: { atMost: 0.3 } },
      { ...shared, what: 'one warm call, p95', rounds: tail, reference: `p50 of ${EMPTY}`, target: { atMost: 0.45 } },
    ];
    return measures;
  } finally {
    await client.close();
    await temporal.close();
    await peers.close();
  }
};

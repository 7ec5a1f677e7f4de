import { map } from '@funcx-temporal/sdk/workflow';

import { train, type Trial } from './functions';

export interface Sweep {
  best: Trial;
  tried: number;
  diverged: number;
}

/** Trains with every rate as one submission, and picks the best trial. Up to half of the trials may fail. */
export async function sweep(endpoint: string, rates: number[], steps = 50): Promise<Sweep> {
  const trials = await map(
    train,
    rates.map((rate) => [rate, steps]),
    {
      endpoint,
      failure: { toleratePercent: 50 },
      retries: { attempts: 2, backoffS: 0, on: ['ConnectionError'] },
      walltimeS: 600,
    },
  );
  const finished = trials.flatMap((trial) => (trial.ok ? [trial.value] : []));
  const best = finished.reduce((least, trial) => (trial.loss < least.loss ? trial : least));
  return { best, tried: rates.length, diverged: rates.length - finished.length };
}

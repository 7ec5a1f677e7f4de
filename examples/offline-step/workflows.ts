import { call } from '@funcx-temporal/sdk/workflow';

import { acquire, analyse } from './functions';

/** The second step waits up to two weeks for its endpoint, a laptop that may be closed. */
export async function acquireThenAnalyse(n: number, instrument: string, laptop: string): Promise<number> {
  const samples = await call(acquire, [n], { endpoint: instrument });
  return call(analyse, [samples], { endpoint: laptop, whenOffline: 'wait', deadlineS: 14 * 24 * 3600 });
}

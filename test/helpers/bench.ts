import { BenchClient } from '../../bench/bench-client';
import type { MeasuredSystem } from '../../bench/system';
import { admin, localEndpoint, state } from './system';

/** The client of the benchmarks, as the administrator. */
export async function connectBenchClient(apiUrl: string = state().api_url): Promise<BenchClient> {
  const { client_id, client_secret } = admin();
  const credentials = { clientId: client_id, clientSecret: client_secret };
  // What the client reads of it.
  return BenchClient.connect({ apiUrl, endpointId: localEndpoint(), credentials } as MeasuredSystem);
}

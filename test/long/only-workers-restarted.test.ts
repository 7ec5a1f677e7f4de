import type { Pool } from 'pg';

import { Client } from '../../sdk';
import { startLoad, type Load } from '../helpers/continuous-load';
import { printFigure } from '../helpers/figures';
import { admin, localEndpoint, openStore, startFuncx, state } from '../helpers/system';

/** One process of each service: nobody else takes over while it restarts, so its successor must serve first. */

const LONGEST_GAP_MS = 2_000;

let store: Pool;
let client: Client;
let load: Load | undefined;

beforeAll(() => {
  store = openStore();
  const { client_id, client_secret } = admin();
  client = new Client({
    apiUrl: state().api_url,
    clientId: client_id,
    clientSecret: client_secret,
    ca: state().ca_file ?? undefined,
  });
});
afterAll(async () => {
  await load?.abandon();
  client.close();
  await store.end();
});

test.each(['workers', 'api'])(
  'answers go on while the only process of %s restarts',
  async (service) => {
    load = startLoad({ client, store, endpointId: localEndpoint() });
    await load.answersComeAfter(Date.now());
    load.longestGapMs();
    const restart = startFuncx(['restart', service]);
    expect(await restart.exit).toBe(0);
    await load.answersComeAfter(Date.now());
    const gapMs = load.longestGapMs();
    printFigure(`longest time without an answer while ${service} restarted: ${gapMs} ms`);
    expect(gapMs).toBeLessThan(LONGEST_GAP_MS);
    expect((await load.stop()).wrong).toBe(0);
  },
  120_000,
);

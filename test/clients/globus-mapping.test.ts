import { chmodSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { globusVenvForNobody, NOBODY, NOT_AS_NOBODY } from '../helpers/accounts';
import { StockClient, StockEndpoint } from '../helpers/stock-globus';

/** The stock endpoint run by root with identity mapping: each task runs as the account that its submitter is mapped to. */

const onlyAsRoot = NOT_AS_NOBODY === undefined ? test : test.skip;
const why = NOT_AS_NOBODY === undefined ? '' : ` (${NOT_AS_NOBODY})`;

let client: StockClient;

beforeAll(async () => {
  if (NOT_AS_NOBODY === undefined) client = new StockClient(await globusVenvForNobody());
}, 300_000);

describe('the stock endpoint with identity mapping', () => {
  onlyAsRoot(`runs a task as the mapped account${why}`, async () => {
    await withMapped('mapped', '.*@clients\\.funcx\\.local', async (mapped) => {
      expect(await client.script('whoami.py', [mapped.id])).toEqual({ value: [NOBODY.name, NOBODY.id] });
    });
  });

  onlyAsRoot(`refuses an identity that is not mapped with a sentence${why}`, async () => {
    await withMapped('unmapped', 'somebody-else@clients\\.funcx\\.local', async (mapped) => {
      expect(await client.script('whoami.py', [mapped.id])).toEqual({
        error: expect.stringContaining('Identity failed to map to a local user name'),
      });
    });
  });
});

async function withMapped(name: string, match: string, use: (endpoint: StockEndpoint) => Promise<void>): Promise<void> {
  const home = mkdtempSync(join(tmpdir(), 'funcx-mapped-'));
  chmodSync(home, 0o777);
  const mappings = [{ source: '{username}', match, output: NOBODY.name }];
  const rules = join(client.dir, `${name}.json`);
  writeFileSync(rules, JSON.stringify([{ DATA_TYPE: 'expression_identity_mapping#1.0.0', mappings }]));
  const mapped = await new StockEndpoint(client, name).configureMapped(rules, { HOME: home, GLOBUS_COMPUTE_USER_DIR: home });
  await mapped.start();
  try {
    await use(mapped);
  } finally {
    await mapped.stop();
  }
}

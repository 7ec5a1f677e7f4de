import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { codeBlocks, readPage, tableRows } from '../helpers/readme';
import { ensureVenv } from '../helpers/python-venv';
import { StockClient, StockEndpoint } from '../helpers/stock-globus';
import { localEndpoint } from '../helpers/system';

/** Releases of the Globus Compute clients before the one that is supported: how far each comes, as docs/clients.md says. */

const both = (version: string): string[] => [`globus-compute-sdk==${version}`, `globus-compute-endpoint==${version}`];
const sdk = (version: string): string[] => [`globus-compute-sdk==${version}`];

const SHELL = [3, 'hello bob\n'];
/** What they pickle lacks fields that the worker's release reads. */
const NO_SHELL = expect.stringContaining("'ShellFunction' object has no attribute");

const SDKS: Record<string, { requirements: string[]; shell?: unknown; isOldEnvironment?: boolean }> = {
  '4.0.0': { requirements: both('4.0.0'), shell: SHELL },
  '3.16.1': { requirements: both('3.16.1'), shell: NO_SHELL },
  '3.0.0': { requirements: sdk('3.0.0'), shell: NO_SHELL },
  '2.30.1': { requirements: sdk('2.30.1'), shell: NO_SHELL },
  '2.0.0': { requirements: sdk('2.0.0'), isOldEnvironment: true },
};

const venvOf = (version: string): Promise<string> => ensureVenv(`globus-${version}`, SDKS[version]?.requirements ?? []);

const EXPECTED = {
  submit: 3,
  many: Array.from({ length: 20 }, (_, i) => i + 100),
  failure: expect.stringMatching(/TaskExecutionFailed[\s\S]*ValueError: not today/),
  registered: 42,
  run: 11,
  status: 'online',
};

describe('an older Globus Compute SDK', () => {
  test.each(Object.keys(SDKS))(
    '%s gets its values from our agent',
    async (version) => {
      const client = new StockClient(await venvOf(version));
      const { GLOBUS_COMPUTE_CLIENT_ID = '', GLOBUS_COMPUTE_CLIENT_SECRET = '' } = client.env;
      // What `funcx env --client funcx-1.0` prints.
      const env = {
        FUNCX_SDK_ENVIRONMENT: 'local',
        FUNCX_SDK_CLIENT_ID: GLOBUS_COMPUTE_CLIENT_ID,
        FUNCX_SDK_CLIENT_SECRET: GLOBUS_COMPUTE_CLIENT_SECRET,
      };
      const { shell, isOldEnvironment } = SDKS[version] ?? {};
      const seen = await client.script('older.py', [localEndpoint()], { timeoutMs: 110_000, env: isOldEnvironment ? env : {} });
      expect(seen).toEqual({ ...EXPECTED, ...(shell === undefined ? {} : { shell }) });
    },
    420_000,
  );

  test('docs/clients.md names each of them, and no other', () => {
    const page = readPage('docs/clients.md');
    const rows = tableRows(page).filter(([, what]) => what === 'SDK');
    expect(rows.map(([version]) => version)).toEqual(Object.keys(SDKS));
    expect(codeBlocks(page).some(({ code }) => code.includes('globus-compute-sdk==4.19.0'))).toBe(true);
  });
});

describe('an older stock endpoint', () => {
  test('4.0.0 runs tasks', async () => {
    const client = new StockClient(await venvOf('4.0.0'));
    const endpoint = new StockEndpoint(client, 'older');
    await client.run('globus-compute-endpoint', ['configure', 'older', '--multi-user', 'false']);
    writeFileSync(join(endpoint.dir, 'user_config_template.yaml.j2'), 'engine:\n  type: ThreadPoolEngine\n  max_workers: 2\n');
    appendFileSync(join(endpoint.dir, 'config.yaml'), 'heartbeat_period: 5\n');
    endpoint.writeUserEnvironment();
    await endpoint.start();
    try {
      const seen = await client.script('older.py', [endpoint.id], { timeoutMs: 110_000 });
      expect(seen).toEqual({ ...EXPECTED, shell: SHELL });
    } finally {
      await endpoint.stop();
    }
  }, 420_000);

  test('3.16.1 is told to be upgraded', async () => {
    const client = new StockClient(await venvOf('3.16.1'));
    await client.run('globus-compute-endpoint', ['configure', 'old']);
    const { status } = await client.run('globus-compute-endpoint', ['start', 'old']);
    expect(status).toBe(65);
    const log = readFileSync(join(client.dir, 'old', 'endpoint.log'), 'utf8');
    expect(log).toContain('globus-compute-endpoint 3.16.1 is too old; this service needs 4.0');
  }, 420_000);
});

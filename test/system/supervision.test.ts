import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { Pool } from 'pg';

import { dataDir, funcx, killAndWait, openStore, state } from '../helpers/system';
import { until } from '../helpers/until';

const MAIN = join(__dirname, '..', '..', 'dist', 'local', 'main.js');

/** Every row of every table, as text. */
async function dumpOf(store: Pool): Promise<string> {
  const { rows: tables } = await store.query<{ name: string }>(
    "select format('%I', tablename) as name from pg_tables where schemaname = 'public'",
  );
  const parts = await Promise.all(
    tables.map(async ({ name }) => {
      const { rows } = await store.query<{ line: string }>(`select row_to_json(t)::text as line from ${name} t limit 20000`);
      return rows.map((row) => row.line).join('\n');
    }),
  );
  return parts.join('\n');
}

describe('what up looks after', () => {
  test.each(['api', 'workers', 'endpoint', 'temporal'] as const)(
    '%s is started again after kill -9, and a line says so',
    async (name) => {
      const log = join(dataDir(), 'logs', 'supervisor.log');
      const lines = (): number =>
        readFileSync(log, 'utf8')
          .split('\n')
          .filter((line) => line.startsWith(name)).length;
      const before = lines();
      await killAndWait(name);
      await until('the log says so', () => lines() > before);
      await until('every part is healthy again', () => funcx(['status']).status === 0, { everyMs: 500 });
    },
  );

  test('a busy API port is one sentence that says how to choose another', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const folder = mkdtempSync(join(tmpdir(), 'funcx-busy-'));
    try {
      const args = [MAIN, 'up', '--detach', '--private-ports', '--data-dir', folder, '--api-port', String(port)];
      const { status, stderr, stdout } = spawnSync(process.execPath, args, { encoding: 'utf8' });
      expect(status).toBe(1);
      expect(stdout + stderr).toMatch(new RegExp(`${port}.*--api-port`));
      expect(stdout + stderr).not.toMatch(/^\s+at /m);
    } finally {
      await new Promise((resolve) => server.close(resolve));
      execFileSync(process.execPath, [MAIN, 'down', '--data-dir', folder]);
      rmSync(folder, { recursive: true, force: true });
    }
  });

  test('no secret is in clear in the store or in a log', async () => {
    const store = openStore();
    const dump = await dumpOf(store).finally(() => store.end());
    expect(dump).toContain('secret_hash');
    const identity = JSON.parse(readFileSync(state().identity_file, 'utf8')) as { client_secret: string };
    const {
      DATABASE_URL = '',
      AMQP_URL = '',
      FUNCX_TOKEN_KEY = '',
    } = JSON.parse(readFileSync(state().env_files.api ?? '', 'utf8')) as Record<string, string>;
    const secrets = [identity.client_secret, FUNCX_TOKEN_KEY, new URL(DATABASE_URL).password, new URL(AMQP_URL).password];
    for (const secret of secrets) {
      expect(secret.length).toBeGreaterThan(8);
      expect(dump.includes(secret)).toBe(false);
      const { status, stdout } = spawnSync(
        'grep',
        ['-rlF', '--', secret, join(dataDir(), 'logs'), join(dataDir(), 'endpoints')],
        { encoding: 'utf8' },
      );
      expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    }
  });
});

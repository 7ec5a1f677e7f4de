import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { layoutOf, makeFolders } from '../../local/machine/layout';
import { anyFreePort, DEFAULT_PORTS } from '../../local/machine/ports';
import { databaseUrl, startPostgres } from '../../local/engines/postgres';
import { ProcessRegistry } from '../../local/processes/process-registry';
import { createLogger } from '../../platform/log';
import { openDatabase, type Database } from '../../platform/store/database';
import { migrate } from '../../platform/store/migrations';

/** A PostgreSQL of the test file's own, with the schema in it, for the SQL that fakes can't check. */
export interface ScratchPostgres {
  db: Database;
  url: string;
  stop(): Promise<void>;
}

export async function startScratchPostgres(): Promise<ScratchPostgres> {
  const layout = layoutOf(await mkdtemp(join(tmpdir(), 'funcx-test-')));
  makeFolders(layout);
  const port = await anyFreePort(new Set());
  const postgres = await startPostgres({
    layout,
    cacheDir: layout.dataDir,
    ports: { ...DEFAULT_PORTS, postgres: port },
    registry: new ProcessRegistry(layout),
    say: () => undefined,
    signal: new AbortController().signal,
    onChange: () => undefined,
  });
  const url = databaseUrl(layout, port);
  const db = openDatabase(url, 5, createLogger('scratch-postgres', 'silent'));
  await migrate(db, Date.now());
  return {
    db,
    url,
    async stop() {
      await db.end();
      await postgres.stop();
      await rm(layout.dataDir, { recursive: true, force: true });
      await rm(join('/var/lib/funcx', layout.hash), { recursive: true, force: true }); // where root may have had to put it
    },
  };
}

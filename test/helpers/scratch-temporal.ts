import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { startTemporal } from '../../local/engines/temporal';
import { cacheDirOf, layoutOf, makeFolders } from '../../local/machine/layout';
import { anyFreePort, DEFAULT_PORTS } from '../../local/machine/ports';
import { ProcessRegistry } from '../../local/processes/process-registry';

/** A Temporal server of the test file's own, for what only a running workflow shows. */
export async function startScratchTemporal(): Promise<{ address: string; stop(): Promise<void> }> {
  const layout = layoutOf(await mkdtemp(join(tmpdir(), 'funcx-test-')));
  makeFolders(layout);
  const temporal = await anyFreePort(new Set());
  const temporalUi = await anyFreePort(new Set([temporal]));
  const server = await startTemporal({
    layout,
    cacheDir: cacheDirOf(layout),
    ports: { ...DEFAULT_PORTS, temporal, temporalUi },
    registry: new ProcessRegistry(layout),
    say: () => undefined,
    signal: new AbortController().signal,
    onChange: () => undefined,
  });
  return {
    address: `127.0.0.1:${temporal}`,
    async stop() {
      await server.stop();
      await rm(layout.dataDir, { recursive: true, force: true });
    },
  };
}

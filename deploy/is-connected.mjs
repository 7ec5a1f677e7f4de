/** Health check of an agent: it writes status.json with each heartbeat. It listens nowhere, so nothing can be asked. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const FRESH_MS = 30_000;
try {
  const file = join(process.env.FUNCX_ENDPOINT_DIR, 'status.json');
  const { state, updated_ms: updatedMs } = JSON.parse(readFileSync(file, 'utf8'));
  process.exitCode = state === 'connected' && Date.now() - updatedMs < FRESH_MS ? 0 : 1;
} catch {
  process.exitCode = 1;
}

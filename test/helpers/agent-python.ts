import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { cacheDirOf, layoutOf, makeFolders } from '../../local/machine/layout';
import { ensureAgentPython } from '../../local/setup/agent-folder';
import { ProcessRegistry } from '../../local/processes/process-registry';

/** The Python of the agent's workers: the one that is given, else the one that `up` makes once under `.cache`. */
export async function agentPython(): Promise<string> {
  if (process.env.FUNCX_PYTHON !== undefined) return process.env.FUNCX_PYTHON;
  const layout = layoutOf(mkdtempSync(join(tmpdir(), 'funcx-python-')));
  makeFolders(layout);
  const registry = new ProcessRegistry(layout);
  return ensureAgentPython({ cacheDir: cacheDirOf(layout), layout, registry, signal: new AbortController().signal });
}

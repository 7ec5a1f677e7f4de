import { createHash } from 'node:crypto';

import { BUFFER, packBuffer } from '../contracts/packing';

import type { Client, FunctionSource } from '../sdk/index';

const IDENTIFIER = { python: BUFFER.pythonSource, javascript: BUFFER.javascriptSource, shell: BUFFER.shell } as const;

/** The id of your newest function with exactly this name and source and no policy of its own; registers it if there is none. */
export async function registerOnce(client: Client, fn: FunctionSource): Promise<string> {
  const code = packBuffer(IDENTIFIER[fn.language], `${fn.name}:${fn.source}`);
  const codeSha256 = createHash('sha256').update(code).digest('hex');
  const known = await client.functions({ name: fn.name, codeSha256 });
  // A service of an earlier release does not read the hash and lists every function of this name.
  const same = known.find(({ code_sha256: hash }) => hash === codeSha256);
  return same?.function_uuid ?? client.registerFunction(fn);
}

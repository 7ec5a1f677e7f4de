import { createHash } from 'node:crypto';

import type { Database } from './database';

/** The code of functions, which never changes. Each process caches recently used code, so that a claim need not read it. */

export interface FunctionCode {
  /** The packed buffer; tasks of one function share it. */
  code: Buffer;
  /** SHA-256 in hex. */
  hash: string;
}

const KEPT_BYTES = 32 * 1024 * 1024;

class KeptCodes {
  readonly #codes = new Map<string, FunctionCode>();
  #bytes = 0;

  get(functionId: string): FunctionCode | undefined {
    const found = this.#codes.get(functionId);
    if (found) {
      this.#codes.delete(functionId);
      this.#codes.set(functionId, found);
    }
    return found;
  }

  add(functionId: string, code: FunctionCode): void {
    if (this.#codes.has(functionId)) return;
    this.#codes.set(functionId, code);
    this.#bytes += code.code.length;
    for (const [oldest, { code: bytes }] of this.#codes) {
      if (this.#bytes <= KEPT_BYTES) return;
      this.#codes.delete(oldest);
      this.#bytes -= bytes.length;
    }
  }
}

const keptByDatabase = new WeakMap<Database, KeptCodes>();

/** The code of these functions. Omits functions that do not exist. */
export async function readFunctionCodes(db: Database, functionIds: readonly string[]): Promise<Map<string, FunctionCode>> {
  let kept = keptByDatabase.get(db);
  if (!kept) keptByDatabase.set(db, (kept = new KeptCodes()));
  const codes = new Map<string, FunctionCode>();
  const missing: string[] = [];
  for (const id of new Set(functionIds)) {
    const code = kept.get(id);
    if (code) codes.set(id, code);
    else missing.push(id);
  }
  if (missing.length === 0) return codes;
  const { rows } = await db.query<{ id: string; code: Buffer }>({
    name: 'load-codes',
    text: 'select id, code from functions where id = any ($1)',
    values: [missing],
  });
  for (const { id, code } of rows) {
    const read = { code, hash: createHash('sha256').update(code).digest('hex') };
    codes.set(id, read);
    kept.add(id, read);
  }
  return codes;
}

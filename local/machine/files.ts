import { randomBytes } from 'node:crypto';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';

const OWNER_ONLY = 0o600;

/** Writes a file atomically: a reader sees the old or the new content, even if this process is killed meanwhile. */
export function writeWhole(path: string, content: string, mode = OWNER_ONLY): void {
  const next = `${path}.${process.pid}.new`;
  writeFileSync(next, content, { mode });
  renameSync(next, path);
}

export function writeJson(path: string, value: unknown, mode = OWNER_ONLY): void {
  writeWhole(path, `${JSON.stringify(value, null, 2)}\n`, mode);
}

/** Returns the parsed content, or undefined if the file does not exist or is not JSON. */
export function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as unknown;
  } catch {
    return undefined;
  }
}

/** Returns the secret in this file. The first call creates it: `bytes` random bytes as hex, readable by the owner only. */
export function keepSecret(path: string, bytes = 24): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    const secret = randomBytes(bytes).toString('hex');
    writeWhole(path, `${secret}\n`);
    return secret;
  }
}

export function tailOf(path: string, lines = 12): string {
  try {
    return readFileSync(path, 'utf8').trimEnd().split('\n').slice(-lines).join('\n  ');
  } catch {
    return '';
  }
}

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { ROOT } from '../helpers/readme';

/** The Python packages of our agents, as `npm run lock:python` wrote them. */

const read = (name: string): string => readFileSync(join(ROOT, 'endpoint', name), 'utf8');
/** One package with its hashes each. */
const entries = read('requirements.lock')
  .split(/\n(?=\S)/)
  .filter((entry) => !entry.startsWith('#'));
const nameOf = (entry: string): string => /^[a-z0-9-]+/.exec(entry)?.[0] ?? '';

test('every locked Python package has one version and its hashes', () => {
  expect(entries.length).toBeGreaterThan(20);
  for (const entry of entries) {
    expect(entry).toMatch(/^[a-z0-9-]+==[\w.]+( ; [^\\]+)? \\\n/);
    expect(entry).toMatch(/--hash=sha256:[0-9a-f]{64}/);
  }
});

test('what people write is locked in the same version, and every package says which one needs it', () => {
  const wanted = read('requirements.txt')
    .split('\n')
    .filter((line) => /^[^#\s]/.test(line));
  expect(wanted.length).toBeGreaterThan(0);
  for (const line of wanted) expect(entries.filter((entry) => entry.startsWith(`${line} `))).toHaveLength(1);
  const names = new Set(entries.map(nameOf));
  for (const entry of entries) {
    const needed = [...entry.matchAll(/^ {4}#(?: via| {2}) ([a-z0-9-]+)$/gm)].map(([, name = '']) => name);
    for (const name of needed) expect(names).toContain(name);
    expect(needed.length > 0 || entry.includes('via -r endpoint/requirements.txt')).toBe(true);
  }
});

test('the locked packages name no package index', () => {
  expect(read('requirements.lock')).not.toMatch(/:\/\/|--index|--extra-index|--find-links|--trusted-host|@ /);
});

import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** docs/operations.md lists every periodic chore of `workers` and `api` with its true period. */

const ROOT = join(__dirname, '..', '..');
const FILES = [...readdirSync(join(ROOT, 'workers')).map((name) => `workers/${name}`), 'api/repeats.ts'];
/** How the code starts a chore: repeat(EVERY_MS, ..), isDue('name', EVERY_MS), setInterval(.., EVERY_MS). */
const PERIODS = [
  /(?:repeat\(|isDue\('\w+',)\s*([A-Z_]+_MS)\b/g,
  /setInterval\([^;]*?([A-Z_]+_MS)\);/gs,
  /^ {2}\}, ([A-Z_]+_MS)\);/gm,
];

function choresOfCode(): string[] {
  return FILES.flatMap((file) => {
    const source = readFileSync(join(ROOT, file), 'utf8');
    const names = PERIODS.flatMap((pattern) => [...source.matchAll(pattern)].map(([, name]) => name ?? ''));
    return [...new Set(names)].map((name) => {
      const [, from = ''] = new RegExp(`import \\{[^}]*\\b${name}\\b[^}]*\\} from '(.+)'`).exec(source) ?? [];
      const declaring = from ? readFileSync(join(ROOT, dirname(file), `${from}.ts`), 'utf8') : source;
      const [, value = ''] = new RegExp(`^(?:export )?const ${name} = ([0-9_]+);`, 'm').exec(declaring) ?? [];
      return `${file}: ${Number(value.replaceAll('_', '')) / 1_000} s`;
    });
  }).sort();
}

function choresOfPage(): string[] {
  const page = readFileSync(join(ROOT, 'docs', 'operations.md'), 'utf8');
  const section = /## What runs periodically\n(.*?)\n## /s.exec(page)?.[1] ?? '';
  return [...section.matchAll(/^\| .+ \| ([\d.]+) s \| `(.+)` \|$/gm)].map(([, period, file]) => `${file}: ${period} s`).sort();
}

test('the page for operators lists every chore with its period', () => {
  expect(choresOfCode().length).toBeGreaterThan(5);
  expect(choresOfPage()).toEqual(choresOfCode());
});

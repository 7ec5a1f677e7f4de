/**
 * `npm run audit`: checks the advisories and licences of the packages that are published or run. Fails on an advisory of level
 * high or above, and on a licence that is missing or not permissive. A registry that cannot be reached is reported and is not a
 * failure.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const PERMISSIVE =
  /^(MIT|MIT-0|ISC|0BSD|Apache-2\.0|BSD-[23]-Clause|BlueOak-1\.0\.0|CC0-1\.0|CC-BY-4\.0|Python-2\.0|Unlicense|Zlib|WTFPL|PostgreSQL)$/;

/** Packages whose package.json names no licence. A person has read their licence file. */
const READ_BY_PERSON = { unionfs: 'Unlicense' };

const isPermissive = (licence) =>
  licence
    .replace(/[()]/g, '')
    .split(/ OR /)
    .some((choice) => choice.split(/ AND /).every((one) => PERMISSIVE.test(one.trim())));

const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'));
const refused = Object.entries(packages)
  .filter(([path, entry]) => path.startsWith('node_modules/') && !entry.dev && !entry.link)
  .map(([path, { license }]) => ({ name: path.replace(/^.*node_modules\//, ''), license }))
  .map(({ name, license = READ_BY_PERSON[name] ?? 'none is named' }) => ({ name, license }))
  .filter(({ license }) => !isPermissive(license))
  .map(({ name, license }) => `${name}: ${license}`);
for (const line of refused) console.error(`licence not allowed: ${line}`);

const { stdout } = spawnSync('npm', ['audit', '--omit=dev', '--json'], { cwd: root, encoding: 'utf8' });
const advisories = countOf(stdout);
if (advisories === undefined) console.log('advisories: not checked, because the registry does not answer');
else console.log(`advisories: ${advisories.total} in packages that run, ${advisories.severe} of level high or above`);
console.log(`licences: ${refused.length} not allowed`);
process.exit(refused.length > 0 || (advisories?.severe ?? 0) > 0 ? 1 : 0);

function countOf(text) {
  try {
    const { info, low, moderate, high, critical } = JSON.parse(text).metadata.vulnerabilities;
    return { total: info + low + moderate + high + critical, severe: high + critical };
  } catch {
    return undefined; // not an audit report: the registry did not answer
  }
}

/**
 * Builds `dist/`: TypeScript, the files that are not TypeScript, and the bundle of the workflows. Repeats only the
 * steps whose inputs have changed. `isBuilt()` must work without any package, because the bootstrap calls it before it installs
 * them.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const NO_ROOMS = new Set(['bin', 'coverage', 'deploy', 'dist', 'docs', 'examples', 'node_modules', 'python', 'test']);
const SETTINGS = ['tsconfig.json', 'tsconfig.build.json', 'package-lock.json'];
const SKIPPED_FOLDERS = new Set(['node_modules', 'lib', '__pycache__', 'results']);
/** Files that are not copied to `dist/`, because nothing needs them there at run time. */
const NOT_COPIED = /(\.ts|\.md|package\.json|tsconfig.*\.json)$/;

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const dist = join(root, 'dist');
const stampFile = join(dist, '.build-stamp');
const bundleFile = join(dist, 'workflow-bundle.js');
const bundleStampFile = join(dist, '.bundle-stamp');

function filesUnder(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) return SKIPPED_FOLDERS.has(entry.name) ? [] : filesUnder(path);
      return entry.isFile() ? [path] : [];
    });
}

function hashOf(files) {
  const hash = createHash('sha256');
  for (const file of files) {
    if (existsSync(file))
      hash
        .update(`${relative(root, file)}\0`)
        .update(readFileSync(file))
        .update('\0');
  }
  return hash.digest('hex');
}

/** Read from the folder: tsc compiles a new room in any case, and a fixed list of names would miss the changes of that room. */
const rooms = () =>
  readdirSync(root, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.') && !NO_ROOMS.has(entry.name))
    .map(({ name }) => name)
    .sort();
const sources = () => rooms().flatMap((room) => filesUnder(join(root, room)));
const sourceHash = () => hashOf([...SETTINGS.map((name) => join(root, name)), ...sources()]);
const readStamp = (file) => (existsSync(file) ? readFileSync(file, 'utf8') : undefined);

/** True when `dist/` was built from exactly these sources. */
export function isBuilt() {
  return existsSync(join(dist, 'local', 'main.js')) && readStamp(stampFile) === sourceHash();
}

function compile() {
  // Without a stamp, an interrupted build or a deletion may have left dist incomplete. tsc's own build info would not notice.
  if (readStamp(stampFile) === undefined) rmSync(join(dist, '.tsbuildinfo'), { force: true });
  rmSync(stampFile, { force: true });
  const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  const { status } = spawnSync(process.execPath, [tsc, '-p', 'tsconfig.build.json'], { cwd: root, stdio: 'inherit' });
  if (status !== 0) throw new Error('tsc found the errors above.');
}

function copyOtherFiles() {
  for (const file of sources()) {
    if (!NOT_COPIED.test(file)) cpSync(file, join(dist, relative(root, file)));
  }
}

/** Workers start from this bundle. Without it, each worker would bundle the workflows at each start, which takes seconds. */
async function bundleWorkflows() {
  const workflowsPath = join(dist, 'workflows', 'index.js');
  if (!existsSync(workflowsPath)) return;
  const inputs = ['workflows', 'contracts', 'flows']
    .flatMap((room) => filesUnder(join(dist, room)))
    .filter((f) => f.endsWith('.js'));
  const stamp = hashOf([...inputs, join(root, 'package-lock.json')]);
  if (existsSync(bundleFile) && readStamp(bundleStampFile) === stamp) return;
  const { bundleWorkflowCode } = createRequire(import.meta.url)('@temporalio/worker');
  const payloadConverterPath = join(dist, 'workflows', 'call-payloads.js');
  const { code } = await bundleWorkflowCode({ workflowsPath, payloadConverterPath });
  writeFileSync(`${bundleFile}.new`, code);
  renameSync(`${bundleFile}.new`, bundleFile);
  writeFileSync(bundleStampFile, stamp);
}

async function build() {
  const hash = sourceHash();
  mkdirSync(dist, { recursive: true });
  compile();
  copyOtherFiles();
  await bundleWorkflows();
  writeFileSync(stampFile, hash);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    if (!isBuilt()) await build();
  } catch (error) {
    process.stderr.write(`The build failed: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  }
}

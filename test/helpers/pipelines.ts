import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { createWriteStream, existsSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import { DefaultLogger, Runtime, Worker } from '@temporalio/worker';

import { TEMPORALIO } from './conditions';
import { admin, dataDir, isAlive, openTemporal, state, type Credentials } from './system';

/** What tests of pipelines need: the package and the examples as their users run them, compiled, in processes of their own. */

const ROOT = join(__dirname, '..', '..');

/** Compiles the package and the examples, once for each system that the tests started. */
export function buildExamples(): void {
  const mark = join(dataDir(), 'examples-built');
  if (process.env.FUNCX_TEST_OWNS_SYSTEM === '1' && existsSync(mark)) return;
  for (const project of [
    'sdk/tsconfig.build.json',
    'examples/tsconfig.build.json',
    'test/fixtures/pipelines/tsconfig.build.json',
  ]) {
    const tsc = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
    const { status, stdout } = spawnSync(process.execPath, [tsc, '-p', project], { cwd: ROOT, encoding: 'utf8' });
    if (status !== 0) throw new Error(`${project} does not compile:\n${stdout}`);
  }
  writeFileSync(mark, '');
}

/** What an author's processes are told. */
export function authorEnv(): NodeJS.ProcessEnv {
  const { client_id, client_secret } = admin();
  const { temporal_address, api_url } = state();
  return {
    ...process.env,
    TEMPORAL_ADDRESS: temporal_address,
    FUNCX_API_URL: api_url,
    FUNCX_CLIENT_ID: client_id,
    FUNCX_CLIENT_SECRET: client_secret,
    // As it is in this repository, not as it was last installed.
    PYTHONPATH: join(ROOT, 'python'),
  };
}

/** A program of an example that runs until it is stopped or killed. */
export class Program {
  #process: ChildProcess | undefined;
  readonly log = join(mkdtempSync(join(tmpdir(), 'funcx-author-')), 'author.log');

  constructor(
    private readonly command: string,
    readonly args: readonly string[],
    private readonly env: NodeJS.ProcessEnv = {},
  ) {}

  start(): this {
    const log = createWriteStream(this.log, { flags: 'a' });
    const child = spawn(this.command, this.args, { env: { ...authorEnv(), ...this.env }, stdio: ['ignore', 'pipe', 'pipe'] });
    child.stdout.pipe(log, { end: false });
    child.stderr.pipe(log, { end: false });
    this.#process = child;
    return this;
  }

  get pid(): number {
    const pid = this.#process?.pid;
    if (pid === undefined || !isAlive(pid)) throw new Error(`the program does not run; see ${this.log}`);
    return pid;
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const child = this.#process;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    await gone;
  }
}

/** The worker of an example. */
export const exampleWorker = (name: string, env: NodeJS.ProcessEnv = {}): Program =>
  new Program(process.execPath, [join(ROOT, 'dist', 'examples', name, 'worker.js')], env);

/** Runs another program of an example to its end; returns what it printed. */
export function runExample(name: string, program: string, args: readonly string[], timeoutMs = 90_000): string {
  const file = join(ROOT, 'dist', 'examples', name, `${program}.js`);
  const { status, stdout, stderr } = spawnSync(process.execPath, [file, ...args], {
    env: authorEnv(),
    encoding: 'utf8',
    timeout: timeoutMs,
  });
  if (status !== 0) throw new Error(`${name}/${program} ended with ${status}: ${stderr}`);
  return stdout;
}

/** The worker of the tests' own pipelines; its task queue is `test-pipelines`. */
export const testWorker = (): Program => new Program(process.execPath, [join(ROOT, 'dist', 'test-pipelines', 'worker.js')]);

/** A folder with NumPy for the agents' Python, installed once. */
export function numpyFolder(): string {
  const folder = join(ROOT, '.cache', 'test-numpy');
  if (existsSync(join(folder, 'numpy'))) return folder;
  const python = state().python;
  if (python === null) throw new Error('the system has no Python');
  const args = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--target', folder, 'numpy<3'];
  const { status, stderr } = spawnSync(python, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`NumPy was not installed: ${stderr}`);
  return folder;
}

/** A Python with Temporal's released SDK, installed once. */
export function temporalioPython(): string {
  const folder = TEMPORALIO;
  const python = join(folder, 'bin', 'python');
  const requirements = join(ROOT, 'examples', 'python-pipeline', 'requirements.txt');
  if (existsSync(join(folder, 'ready'))) return python;
  const base = state().python;
  if (base === null) throw new Error('the system has no Python');
  for (const [command, args] of [
    [base, ['-m', 'venv', '--clear', folder]],
    [python, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '-r', requirements]],
  ] as const) {
    // The requirements name our own package by a path beside the file.
    const { status, stderr } = spawnSync(command, args, { encoding: 'utf8', cwd: dirname(requirements) });
    if (status !== 0) throw new Error(`temporalio was not installed: ${stderr}`);
  }
  writeFileSync(join(folder, 'ready'), '');
  return python;
}

/** Runs a Python program of an example to its end; returns what it printed. */
export function runPython(name: string, program: string, args: readonly string[], timeoutMs = 90_000): string {
  const cwd = join(ROOT, 'examples', name);
  const { status, stdout, stderr } = spawnSync(temporalioPython(), [program, ...args], {
    cwd,
    env: authorEnv(),
    encoding: 'utf8',
    timeout: timeoutMs,
  });
  if (status !== 0) throw new Error(`${name}/${program} ended with ${status}: ${stderr}`);
  return stdout;
}

export const pythonWorker = (name: string): Program =>
  new Program(temporalioPython(), [join(ROOT, 'examples', name, 'worker.py')], { PYTHONDONTWRITEBYTECODE: '1' });

/** An author's worker whose workflows use the Nexus service; its second argument is its task queue, its own for each author. */
export const nexusPythonWorker = ({ client_id, client_secret }: Credentials): Program =>
  new Program(temporalioPython(), [join(ROOT, 'test', 'fixtures', 'pipelines', 'nexus_worker.py'), `nexus-${client_id}`], {
    PYTHONDONTWRITEBYTECODE: '1',
    FUNCX_CLIENT_ID: client_id,
    FUNCX_CLIENT_SECRET: client_secret,
  });

let isQuiet = false;

/** Runs the recorded history of a workflow against its code, of an example or our own; throws when they do not fit. */
export async function replay(workflowId: string, example?: string): Promise<void> {
  if (!isQuiet) Runtime.install({ logger: new DefaultLogger('ERROR') });
  isQuiet = true;
  const { client, close } = await openTemporal();
  const history = await client.workflow.getHandle(workflowId).fetchHistory();
  await close();
  const options =
    example === undefined
      ? {
          workflowsPath: join(ROOT, 'dist', 'workflows', 'index.js'),
          dataConverter: { payloadConverterPath: join(ROOT, 'dist', 'workflows', 'call-payloads.js') },
        }
      : { workflowsPath: join(ROOT, 'dist', 'examples', example, 'workflows.js') };
  await Worker.runReplayHistory(options, history, workflowId);
}

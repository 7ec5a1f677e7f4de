import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createWriteStream, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';

import { REPOSITORY, type MeasuredSystem } from './system';

/** Other systems that run functions, each with one worker process, from a virtual environment with pinned packages. */

export const PEERS = ['Celery', 'Parsl HTEX', 'Dask'] as const;
export type PeerName = (typeof PEERS)[number];

const MODULES: Record<PeerName, string> = { Celery: 'celery_peer', 'Parsl HTEX': 'parsl_peer', Dask: 'dask_peer' };
const SOURCES = join(__dirname, 'peers');
const VHOST = 'funcx-bench';
const START_MS = 60_000;

/** A request to a peer. The peer responds with the time that the work took. */
export type PeerRequest =
  | { kind: 'submitters'; count: number; batches: number; tasks: number }
  | { kind: 'singles'; count: number; calls: number }
  | { kind: 'echo'; bytes: number };

export interface Peer {
  /** The seconds that the request took. */
  measure(request: PeerRequest): Promise<number>;
}

export interface Peers {
  get(name: PeerName): Peer;
  close(): Promise<void>;
}

/** Starts peers beside the system; Celery gets a virtual host of its own on the system's broker. */
export async function startPeers(
  system: MeasuredSystem,
  names: readonly PeerName[],
  say: (line: string) => void,
): Promise<Peers> {
  const python = ensureEnvironment(say);
  const folder = mkdtempSync(join(tmpdir(), 'funcx-bench-peers-'));
  const vhost = names.includes('Celery') ? await createVhost(system) : undefined;
  const running = new Map<PeerName, RunningPeer>();
  const close = async (): Promise<void> => {
    for (const peer of running.values()) await peer.close();
    await vhost?.remove();
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    for (const name of names) {
      say(`${name} starts`);
      running.set(name, await RunningPeer.start(name, python, folder, vhost?.url));
    }
  } catch (error) {
    await close();
    throw error;
  }
  return {
    get(name) {
      const peer = running.get(name);
      if (!peer) throw new Error(`${name} was not started`);
      return peer;
    },
    close,
  };
}

class RunningPeer implements Peer {
  readonly #answers: AsyncIterator<string>;

  private constructor(
    private readonly name: PeerName,
    private readonly child: ChildProcess,
    private readonly log: string,
  ) {
    this.#answers = createInterface({ input: child.stdout! })[Symbol.asyncIterator](); // a pipe, by the options of spawn
  }

  static async start(name: PeerName, python: string, folder: string, amqpUrl: string | undefined): Promise<RunningPeer> {
    const log = join(folder, `${MODULES[name]}.log`);
    const child = spawn(python, [join(SOURCES, 'serve.py'), MODULES[name]], {
      cwd: folder, // Parsl writes into it
      env: {
        ...process.env,
        PATH: `${dirname(python)}:${process.env.PATH}`, // Parsl starts programs of the environment by name
        PYTHONPATH: SOURCES,
        PYTHONDONTWRITEBYTECODE: '1',
        BENCH_AMQP_URL: amqpUrl,
      },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    child.stderr.pipe(createWriteStream(log));
    const peer = new RunningPeer(name, child, log);
    const timer = setTimeout(() => child.kill('SIGKILL'), START_MS);
    await peer.#answer();
    clearTimeout(timer);
    return peer;
  }

  async measure(request: PeerRequest): Promise<number> {
    this.child.stdin!.write(`${JSON.stringify(request)}\n`); // a pipe, by the options of spawn
    const { seconds, error } = await this.#answer();
    if (seconds === undefined) throw new Error(`${this.name} failed: ${error}`);
    return seconds;
  }

  async #answer(): Promise<{ seconds?: number; error?: string }> {
    const next = (await this.#answers.next()) as IteratorResult<string, undefined>;
    if (!next.done) return JSON.parse(next.value) as { seconds?: number; error?: string };
    const text = existsSync(this.log) ? readFileSync(this.log, 'utf8').slice(-2_000) : '';
    throw new Error(`${this.name} ended; it said:\n${text}`);
  }

  async close(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const gone = new Promise((resolve) => this.child.once('exit', resolve));
    this.child.stdin!.end(); // a pipe, by the options of spawn
    const timer = setTimeout(() => this.child.kill('SIGKILL'), START_MS);
    await gone;
    clearTimeout(timer);
  }
}

/** Returns the Python of the environment with the pinned packages. Creates the environment at the first run. */
function ensureEnvironment(say: (line: string) => void): string {
  const base = process.env.FUNCX_BASE_PYTHON ?? 'python3';
  const requirements = join(SOURCES, 'requirements.txt');
  const version = run(base, ['-c', 'import sys; print(sys.executable, sys.version)']);
  const hash = createHash('sha256').update(version).update(readFileSync(requirements)).digest('hex').slice(0, 12);
  const target = join(REPOSITORY, '.cache', `bench-peers-${hash}`);
  const python = join(target, 'bin', 'python');
  const complete = join(target, 'complete');
  if (existsSync(complete)) return python;
  say('installing the peers; this takes a minute, once');
  rmSync(target, { recursive: true, force: true });
  // Created in place, because the programs of an environment contain the path of its Python.
  run(base, ['-m', 'venv', target]);
  run(python, ['-m', 'pip', 'install', '-q', '--no-input', '--disable-pip-version-check', '-r', requirements]);
  writeFileSync(complete, '');
  return python;
}

function run(command: string, args: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} failed:\n${(stderr ?? '').slice(-2_000)}`);
  return stdout;
}

/** Creates a virtual host for this run only, so that no queues or messages of Celery stay on the broker. */
async function createVhost(system: MeasuredSystem): Promise<{ url: string; remove(): Promise<void> }> {
  const management = new URL(system.managementUrl);
  const user = decodeURIComponent(management.username);
  const authorization = `Basic ${Buffer.from(`${user}:${decodeURIComponent(management.password)}`).toString('base64')}`;
  const call = async (method: string, path: string, body: object = {}): Promise<void> => {
    const headers = { authorization, 'content-type': 'application/json' };
    const reply = await fetch(`${management.origin}/api/${path}`, { method, headers, body: JSON.stringify(body) });
    if (!reply.ok && !(method === 'DELETE' && reply.status === 404)) {
      throw new Error(`the broker refused ${method} ${path}: ${reply.status} ${await reply.text()}`);
    }
  };
  await call('DELETE', `vhosts/${VHOST}`); // left behind by a killed run
  await call('PUT', `vhosts/${VHOST}`);
  await call('PUT', `permissions/${VHOST}/${encodeURIComponent(user)}`, { configure: '.*', write: '.*', read: '.*' });
  const url = new URL(system.amqpUrl);
  url.pathname = `/${VHOST}`;
  return { url: url.toString(), remove: () => call('DELETE', `vhosts/${VHOST}`) };
}

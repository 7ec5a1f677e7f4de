import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A loopback of one's own: programs inside see the system's ports where their release has them hard-wired. */
export class OwnLoopback {
  readonly #folder = mkdtempSync(join(tmpdir(), 'funcx-lo-'));
  readonly #servers: Server[] = [];
  readonly #sockets = new Set<Socket>();
  readonly #ports: number[] = [];

  private constructor(private readonly names: readonly string[]) {}

  /** `ports`: from the port inside to the port of this machine's loopback. `names`: host names that lead there as well. */
  static async open(ports: Readonly<Record<number, number>>, names: readonly string[] = []): Promise<OwnLoopback> {
    const loopback = new OwnLoopback(names);
    if (names.length > 0) writeFileSync(join(loopback.#folder, 'hosts'), `127.0.0.1 localhost ${names.join(' ')}\n`);
    for (const [inside, outside] of Object.entries(ports)) await loopback.#forward(Number(inside), outside);
    return loopback;
  }

  async #forward(inside: number, outside: number): Promise<void> {
    const server = createServer({ allowHalfOpen: true }, (near) => {
      const far = connect({ host: '127.0.0.1', port: outside, allowHalfOpen: true });
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const) {
        this.#sockets.add(one);
        one.pipe(other);
        one.on('error', () => other.destroy());
        one.on('close', () => this.#sockets.delete(one));
      }
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject).listen(join(this.#folder, String(inside)), resolve);
    });
    this.#servers.push(server);
    this.#ports.push(inside);
  }

  /** Starts a program inside, on request in a process group of its own. Its end is the caller's business. */
  spawn(command: string, args: readonly string[], env: NodeJS.ProcessEnv, detached = false): ChildProcess {
    const inside = [join(__dirname, 'run-in-own-loopback.mjs'), this.#folder, this.#ports.join(','), '--', command, ...args];
    const own = this.names.length > 0 ? '-rnm' : '-rn';
    return spawn('unshare', [own, process.execPath, ...inside], { env, detached, stdio: ['ignore', 'pipe', 'pipe'] });
  }

  async run(command: string, args: readonly string[], env: NodeJS.ProcessEnv, deadlineMs = 60_000): Promise<Finished> {
    const child = this.spawn(command, args, env, true);
    return finished(child, deadlineMs, () => child.pid && process.kill(-child.pid, 'SIGKILL'));
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await Promise.all(this.#servers.map((server) => new Promise((resolve) => server.close(resolve))));
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

export interface Finished {
  /** Null after the deadline. */
  status: number | null;
  stdout: string;
  stderr: string;
}

/** Collects what a program says until it ends; ends it at the deadline. */
export async function finished(
  child: ChildProcess,
  deadlineMs: number,
  kill: () => unknown = () => child.kill('SIGKILL'),
): Promise<Finished> {
  let [stdout, stderr] = ['', ''];
  child.stdout?.on('data', (data: Buffer) => (stdout += data.toString()));
  child.stderr?.on('data', (data: Buffer) => (stderr += data.toString()));
  const timer = setTimeout(kill, deadlineMs);
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve(code));
  });
  clearTimeout(timer);
  return { status, stdout, stderr };
}

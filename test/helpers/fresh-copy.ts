import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

const ROOT = join(__dirname, '..', '..');
const TEST_USER = 'funcx-newcomer';

/**
 * A copy of what the repository tracks, in a folder of its own with an empty home: what a newcomer has after `git clone`.
 * When the tests run as root it belongs to an ordinary user, who then runs everything; so both kinds of user are tested.
 */
export class FreshCopy {
  readonly dir: string;
  readonly home: string;
  readonly dataDir: string;
  readonly #user: { uid: number; gid: number } | undefined;

  constructor() {
    const base = mkdtempSync(join(tmpdir(), 'funcx-fresh-'));
    chmodSync(base, 0o755);
    this.dir = join(base, 'clone');
    this.home = join(base, 'home');
    this.dataDir = join(this.dir, '.funcx-data');
    mkdirSync(this.home);
    const tracked = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
      cwd: ROOT,
      encoding: 'utf8',
    });
    for (const name of tracked.split('\0').filter((path) => path !== '' && existsSync(join(ROOT, path)))) {
      mkdirSync(dirname(join(this.dir, name)), { recursive: true });
      cpSync(join(ROOT, name), join(this.dir, name));
    }
    if (process.getuid?.() === 0) {
      if (spawnSync('id', [TEST_USER]).status !== 0) execFileSync('useradd', ['--system', '--no-create-home', TEST_USER]);
      const id = (flag: string): number => Number(execFileSync('id', [flag, TEST_USER], { encoding: 'utf8' }));
      this.#user = { uid: id('-u'), gid: id('-g') };
      execFileSync('chown', ['-R', `${TEST_USER}:`, base]);
    }
  }

  get #options() {
    // What a machine gives everybody (proxies, certificates), but nothing of the user or the npm that runs the tests.
    const kept = /^(PATH|LANG|TMPDIR|https?_proxy|HTTPS?_PROXY|PIP_.*|SSL_.*|NODE_EXTRA_CA_CERTS|REQUESTS_CA_BUNDLE)$/;
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => kept.test(name)));
    return { cwd: this.dir, env: { ...env, HOME: this.home }, ...this.#user };
  }

  /** Runs a command to its end. */
  run(command: string, args: readonly string[], timeout = 240_000): { status: number | null; output: string } {
    const { status, stdout, stderr } = spawnSync(command, args, { ...this.#options, encoding: 'utf8', timeout });
    return { status, output: stdout + stderr };
  }

  /** Starts a command in a process group of its own, as a terminal does. */
  start(command: string, args: readonly string[]): { child: ChildProcess; output: () => string } {
    const child = spawn(command, args, { ...this.#options, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
    return { child, output: () => output };
  }

  /** Command lines of living processes that belong to this copy: by where they run, or by what they were told. */
  processes(): string[] {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .flatMap((pid) => {
        try {
          const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
          const environment = readFileSync(`/proc/${pid}/environ`, 'utf8');
          const isOurs = [line, environment, readlinkSync(`/proc/${pid}/cwd`)].some((text) => text.includes(this.dir));
          return isOurs && line !== '' ? [line] : [];
        } catch {
          return []; // it ended meanwhile
        }
      });
  }

  remove(): void {
    rmSync(dirname(this.dir), { recursive: true, force: true });
  }
}

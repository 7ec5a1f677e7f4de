import { spawn, type ChildProcess } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { join } from 'node:path';

import { answersReady } from '../../local/supervisor/our-services';
import { anyFreePort } from '../../local/machine/ports';
import { dataDir, serviceEnv } from './system';
import { until } from './until';

const ROOT = join(__dirname, '..', '..');

/** Another `api` of the same service, on ports of its own; it can be replaced as an operator would. */
export class ApiProcess {
  #child: ChildProcess | undefined;

  private constructor(
    readonly port: number,
    readonly wsPort: number,
    private readonly extra: Record<string, string>,
  ) {}

  static async start(extra: Record<string, string> = {}): Promise<ApiProcess> {
    const port = await anyFreePort(new Set());
    const api = new ApiProcess(port, await anyFreePort(new Set([port])), extra);
    await api.#launch();
    return api;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /** Null while it runs. */
  get exitCode(): number | null {
    return this.#child?.exitCode ?? null;
  }

  get apiUrl(): string {
    return `http://localhost:${this.port}`;
  }

  get wsUrl(): string {
    return `ws://localhost:${this.wsPort}`;
  }

  async #launch(): Promise<void> {
    const log = createWriteStream(join(dataDir(), 'logs', 'api-of-a-test.log'), { flags: 'a' });
    const env = {
      ...process.env,
      ...serviceEnv('api'),
      API_PORT: String(this.port),
      WS_PORT: String(this.wsPort),
      FUNCX_STOP_DELAY_S: '0',
    };
    const child = spawn(process.execPath, ['--enable-source-maps', join(ROOT, 'dist', 'api', 'main.js')], {
      env: { ...env, API_PUBLIC_URL: this.apiUrl, ...this.extra },
      // Supervised, as `up` does it: at a stop it relies on a successor.
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    child.stdout?.pipe(log, { end: false });
    child.stderr?.pipe(log, { end: false });
    this.#child = child;
    await until('the api is ready', async () => {
      if (child.exitCode !== null) throw new Error(`the api ended with ${child.exitCode}`);
      return answersReady(this.port);
    });
  }

  /** Stops the process and starts its successor beside it; resolves when the old one is gone. */
  async replace(): Promise<void> {
    const gone = this.stop();
    await this.#launch();
    await gone;
  }

  async stop(): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null) return;
    const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    child.kill('SIGTERM');
    await gone;
  }
}

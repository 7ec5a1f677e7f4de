import { spawn, type ChildProcess } from 'node:child_process';
import { createWriteStream, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { BenchClient } from './bench-client';
import { REPOSITORY, type MeasuredSystem } from './system';
import { until } from './until';

/** A further agent on this machine. It has its own endpoint, which `remove` deletes. */
export class BenchAgent {
  readonly #dir: string;
  #process: ChildProcess | undefined;

  constructor(
    private readonly system: MeasuredSystem,
    private readonly client: BenchClient,
    private readonly name: string,
    private readonly env: Record<string, string> = {},
  ) {
    this.#dir = mkdtempSync(join(tmpdir(), `funcx-bench-${name}-`));
  }

  get endpointId(): string {
    return (JSON.parse(readFileSync(join(this.#dir, 'endpoint.json'), 'utf8')) as { endpoint_id: string }).endpoint_id;
  }

  /** Resolves when the endpoint is online. */
  async start(): Promise<void> {
    const { FUNCX_ENDPOINT_ID: _id, FUNCX_ENDPOINT_PUBLIC: _public, ...shared } = this.system.agentEnv;
    const child = spawn(process.execPath, [join(REPOSITORY, 'dist', 'endpoint', 'main.js')], {
      env: {
        ...process.env,
        ...shared,
        FUNCX_CLIENT_ID: this.system.credentials.clientId,
        FUNCX_CLIENT_SECRET: this.system.credentials.clientSecret,
        FUNCX_ENDPOINT_NAME: this.name,
        FUNCX_ENDPOINT_DIR: this.#dir,
        ...this.env,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const log = createWriteStream(join(this.#dir, 'agent.log'), { flags: 'a' });
    child.stdout.pipe(log, { end: false });
    child.stderr.pipe(log, { end: false });
    this.#process = child;
    await until(`agent ${this.name} is online`, async () => {
      if (child.exitCode !== null) throw new Error(`agent ${this.name} ended; its log is in ${this.#dir}`);
      return existsSync(join(this.#dir, 'endpoint.json')) && (await this.client.isOnline(this.endpointId));
    });
  }

  /** Resolves when the endpoint is offline. */
  async stop(): Promise<void> {
    await this.#end();
    await until(`endpoint ${this.name} is offline`, async () => !(await this.client.isOnline(this.endpointId)));
  }

  async #end(): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    await gone;
  }

  async remove(): Promise<void> {
    await this.#end();
    if (existsSync(join(this.#dir, 'endpoint.json'))) await this.client.deleteEndpoint(this.endpointId);
    rmSync(this.#dir, { recursive: true, force: true });
  }
}

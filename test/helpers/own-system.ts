import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { createWriteStream, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { agentVariables, serviceVariables } from '../../local/environment';
import { readJson } from '../../local/files';
import { layoutOf, type Layout } from '../../local/layout';
import { readState, type SystemState } from '../../local/state';
import { agentPython } from './agent-python';
import { until } from './until';

/**
 * Engines of a test file's own, and our processes started by it one by one: for tests that need `api` or `workers` in an
 * environment that they would not be given otherwise. Whatever dies is not started again unless the test does so.
 */

const ROOT = join(__dirname, '..', '..');
export type OurProcess = 'api' | 'workers' | 'endpoint';

export class OwnSystem {
  readonly #children = new Map<OurProcess, ChildProcess>();
  #python = '';

  private constructor(
    private readonly layout: Layout,
    readonly state: SystemState,
  ) {}

  static async start(): Promise<OwnSystem> {
    const dataDir = mkdtempSync(join(tmpdir(), 'funcx-own-'));
    const up = ['up', '--only', 'engines', '--detach', '--private-ports', '--data-dir', dataDir];
    const { status, stderr } = spawnSync(process.execPath, [join(ROOT, 'dist', 'local', 'main.js'), ...up], { encoding: 'utf8' });
    const layout = layoutOf(dataDir);
    const state = readState(layout);
    if (status !== 0 || !state) throw new Error(`the engines did not start: ${stderr}`);
    const system = new OwnSystem(layout, state);
    system.#python = await agentPython();
    return system;
  }

  get variables(): Record<string, string> {
    return serviceVariables(this.layout, this.state, {});
  }

  get credentials(): { client_id: string; client_secret: string } {
    return readJson(this.state.identity_file) as { client_id: string; client_secret: string };
  }

  /** Starts one and waits until it is ready. The returned promise of its end is there before that. */
  async run(name: OurProcess, env: Record<string, string> = {}): Promise<{ ended: Promise<void> }> {
    const dir = join(this.layout.dataDir, name);
    mkdirSync(dir, { recursive: true });
    const given =
      name === 'endpoint'
        ? agentVariables(this.state, 'own', dir, this.#python)
        : { ...this.variables, HEALTH_HOST: '127.0.0.1', HEALTH_PORT: String(this.state.ports.workersHealth) };
    const child = spawn(process.execPath, ['--enable-source-maps', join(ROOT, 'dist', name, 'main.js')], {
      env: { ...process.env, ...given, FUNCX_HEARTBEAT_PERIOD_S: '1', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const log = createWriteStream(join(this.layout.logsDir, `${name}.log`), { flags: 'a' });
    child.stdout.pipe(log, { end: false });
    child.stderr.pipe(log, { end: false });
    this.#children.set(name, child);
    const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    const port = name === 'api' ? this.state.ports.api : this.state.ports.workersHealth;
    await until(`${name} is ready`, async () => {
      if (child.exitCode !== null) throw new Error(`${name} ended with ${child.exitCode}; see ${this.layout.logsDir}`);
      if (name === 'endpoint')
        return (readJson(join(dir, 'status.json')) as { state?: string } | undefined)?.state === 'connected';
      return (await fetch(`http://127.0.0.1:${port}/readyz`)).ok;
    });
    return { ended };
  }

  endpointId(): string {
    return (readJson(join(this.layout.dataDir, 'endpoint', 'endpoint.json')) as { endpoint_id: string }).endpoint_id;
  }

  async end(name: OurProcess): Promise<void> {
    const child = this.#children.get(name);
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    await gone;
  }

  async stop(): Promise<void> {
    for (const name of ['endpoint', 'workers', 'api'] as const) await this.end(name);
    spawnSync(process.execPath, [join(ROOT, 'dist', 'local', 'main.js'), 'down', '--data-dir', this.layout.dataDir]);
    rmSync(this.layout.dataDir, { recursive: true, force: true });
  }
}

import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { createWriteStream, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { COMPUTE_SCOPE } from '../../contracts/scopes';
import { agentVariables, serviceVariables } from '../../local/setup/environment';
import { readJson, tailOf } from '../../local/machine/files';
import { layoutOf, type Layout } from '../../local/machine/layout';
import { readState, type SystemState } from '../../local/setup/state';
import { agentPython } from './agent-python';
import { until } from './until';

/**
 * Engines of a test file's own, and our processes started by it one by one: for tests that need `api` or `workers` in an
 * environment that they would not be given otherwise. Whatever dies is not started again unless the test does so.
 */

const ROOT = join(__dirname, '..', '..');
/** On a machine that other tests keep busy. */
const READY_MS = 90_000;
export type OurProcess = 'api' | 'workers' | 'endpoint';

export class OwnSystem {
  readonly #children = new Map<OurProcess, ChildProcess>();
  #python = '';

  #token: string | undefined;

  private constructor(
    readonly layout: Layout,
    readonly state: SystemState,
  ) {}

  /** `env` is for the engines. */
  static async start(env: Record<string, string> = {}): Promise<OwnSystem> {
    const dataDir = mkdtempSync(join(tmpdir(), 'funcx-own-'));
    const up = ['up', '--only', 'engines', '--detach', '--private-ports', '--data-dir', dataDir];
    const { status, stderr } = spawnSync(process.execPath, [join(ROOT, 'dist', 'local', 'main.js'), ...up], {
      encoding: 'utf8',
      env: { ...process.env, ...env },
    });
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
        ? agentVariables(this.state, { name: 'own', dir, python: this.#python, identity: this.credentials })
        : { ...this.variables, HEALTH_HOST: '127.0.0.1', HEALTH_PORT: String(this.state.ports.workersHealth) };
    const child = spawn(process.execPath, ['--enable-source-maps', join(ROOT, 'dist', name, 'main.js')], {
      env: { ...process.env, ...given, FUNCX_HEARTBEAT_PERIOD_S: '1', FUNCX_STOP_DELAY_S: '0', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const log = createWriteStream(join(this.layout.logsDir, `${name}.log`), { flags: 'a' });
    child.stdout.pipe(log, { end: false });
    child.stderr.pipe(log, { end: false });
    this.#children.set(name, child);
    const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    const port = name === 'api' ? this.state.ports.api : this.state.ports.workersHealth;
    const isReady = async (): Promise<boolean> => {
      if (child.exitCode !== null) throw new Error(`${name} ended with ${child.exitCode}; see ${this.layout.logsDir}`);
      if (name === 'endpoint')
        return (readJson(join(dir, 'status.json')) as { state?: string } | undefined)?.state === 'connected';
      return (await fetch(`http://127.0.0.1:${port}/readyz`)).ok;
    };
    await until(`${name} is ready`, isReady, { deadlineMs: READY_MS }).catch((cause: unknown) => {
      // The folder is removed at the end of the test.
      throw new Error(`${name} is not ready. The end of its log:\n${tailOf(join(this.layout.logsDir, `${name}.log`))}`, {
        cause,
      });
    });
    return { ended };
  }

  /** One request as the administrator; rejects unless it succeeds. */
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- tests look into answers of every shape
  async request(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<any> {
    this.#token ??= await this.#login();
    const response = await fetch(this.state.api_url + path, {
      method,
      headers: { 'content-type': 'application/json', authorization: `Bearer ${this.#token}`, ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
    return response.json();
  }

  async #login(): Promise<string> {
    const { client_id, client_secret } = this.credentials;
    const response = await fetch(`${this.state.api_url}/v2/oauth2/token`, {
      method: 'POST',
      headers: { authorization: `Basic ${Buffer.from(`${client_id}:${client_secret}`).toString('base64')}` },
      body: new URLSearchParams({ grant_type: 'client_credentials', scope: COMPUTE_SCOPE }),
    });
    if (!response.ok) throw new Error(`no token: ${response.status} ${await response.text()}`);
    return ((await response.json()) as { access_token: string }).access_token;
  }

  /** The metrics of `workers`, which an administrator may read. */
  async workersMetrics(): Promise<string> {
    this.#token ??= await this.#login();
    const headers = { authorization: `Bearer ${this.#token}` };
    return (await fetch(`http://127.0.0.1:${this.state.ports.workersHealth}/metrics`, { headers })).text();
  }

  async register(name: string, source: string, language: 'python' | 'javascript'): Promise<string> {
    const code = { function_name: name, function_code: source, language, serialized: false, meta: {} };
    return ((await this.request('POST', '/v3/functions', code)) as { function_uuid: string }).function_uuid;
  }

  endpointId(): string {
    return (readJson(join(this.layout.dataDir, 'endpoint', 'endpoint.json')) as { endpoint_id: string }).endpoint_id;
  }

  async end(name: OurProcess, signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    const child = this.#children.get(name);
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    await gone;
  }

  async stop(): Promise<void> {
    for (const name of ['endpoint', 'workers', 'api'] as const) await this.end(name);
    spawnSync(process.execPath, [join(ROOT, 'dist', 'local', 'main.js'), 'down', '--data-dir', this.layout.dataDir]);
    rmSync(this.layout.dataDir, { recursive: true, force: true });
  }
}

import { spawn, type ChildProcess } from 'node:child_process';
import { appendFileSync, existsSync, mkdtempSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { ensureVenv } from './python-venv';
import { admin, Http, state, type CommandResult, type Credentials } from './system';
import { until } from './until';

/** The released clients of Globus Compute 4, unmodified, pointed at the system of the tests by their environment alone. */

export const SCRIPTS = join(__dirname, '..', 'clients', 'scripts');
export const GLOBUS_REQUIREMENTS = ['globus-compute-sdk==4.19.0', 'globus-compute-endpoint==4.19.0', 'texttable<1.7.2'];

/** The fastest engine, and every period as short as the endpoint allows. */
const TEMPLATE = `
idle_heartbeats_soft: {{ idle_soft | default(0) }}
heartbeat_period: {{ heartbeat_period | default(5) }}
engine:
  type: {{ engine | default("ThreadPoolEngine") }}
  max_workers: 2
`;

export const globusVenv = (): Promise<string> => ensureVenv('globus-4.19.0', GLOBUS_REQUIREMENTS);

export class StockClient {
  readonly dir = mkdtempSync(join(tmpdir(), 'funcx-globus-'));

  constructor(
    readonly bin: string,
    readonly credentials: Credentials = admin(),
    /** Where the service is; by default the API of the system. */
    private readonly apiUrl = state().api_url,
  ) {}

  get env(): Record<string, string> {
    return {
      PATH: `${this.bin}:${process.env.PATH ?? ''}`,
      HOME: process.env.HOME ?? '/',
      GLOBUS_SDK_ENVIRONMENT: 'local',
      GLOBUS_SDK_SERVICE_URL_AUTH: `${this.apiUrl}/`,
      GLOBUS_COMPUTE_CLIENT_ID: this.credentials.client_id,
      GLOBUS_COMPUTE_CLIENT_SECRET: this.credentials.client_secret,
      GLOBUS_COMPUTE_USER_DIR: this.dir,
      // The SDK's own address is fixed at http://localhost:5000; as a proxy the service answers for it.
      HTTP_PROXY: this.apiUrl,
      http_proxy: this.apiUrl,
      NO_PROXY: '',
      no_proxy: '',
    };
  }

  /** Runs a program of the virtual environment to its end. */
  async run(program: string, args: readonly string[], { timeoutMs = 60_000, env = {} } = {}): Promise<CommandResult> {
    const child = spawn(join(this.bin, program), args, { env: { ...this.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
    const status = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    clearTimeout(timer);
    return { status, stdout, stderr };
  }

  /** Runs a script of ours; its last line of output is JSON. */
  async script(
    name: string,
    args: readonly string[],
    options: { timeoutMs?: number; env?: Record<string, string> } = {},
    // eslint-disable-next-line @typescript-eslint/no-explicit-any -- tests look into answers of every shape
  ): Promise<any> {
    const { status, stdout, stderr } = await this.run('python', [join(SCRIPTS, name), ...args], options);
    if (status !== 0) throw new Error(`${name} ended with ${status}: ${stderr.slice(-4_000)}${stdout.slice(-1_000)}`);
    return JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '');
  }
}

/** A stock core endpoint with its user endpoints. */
export class StockEndpoint {
  #process: ChildProcess | undefined;

  constructor(
    readonly client: StockClient,
    readonly name: string,
  ) {}

  get dir(): string {
    return join(this.client.dir, this.name);
  }

  get log(): string {
    return join(this.client.dir, `${this.name}.log`);
  }

  get id(): string {
    return (JSON.parse(readFileSync(join(this.dir, 'endpoint.json'), 'utf8')) as { endpoint_id: string }).endpoint_id;
  }

  async configure(config = '', template = TEMPLATE, userEnvironment: Record<string, string> = {}): Promise<this> {
    const isRoot = process.getuid?.() === 0;
    const file = join(this.client.dir, `${this.name}.template.j2`);
    writeFileSync(file, template);
    const args = ['configure', this.name, '--template-config', file, ...(isRoot ? ['--multi-user', 'false'] : [])];
    const { status, stderr } = await this.client.run('globus-compute-endpoint', args);
    if (status !== 0) throw new Error(`configure: ${stderr}`);
    appendFileSync(join(this.dir, 'config.yaml'), `heartbeat_period: 5\n${isRoot ? 'email: me@example.com\n' : ''}${config}`);
    this.writeUserEnvironment(userEnvironment);
    return this;
  }

  /** With identity mapping, for root: tasks run as the mapped account, in this environment. */
  async configureMapped(rules: string, userEnvironment: Record<string, string>): Promise<this> {
    const template = join(this.client.dir, `${this.name}.template.j2`);
    writeFileSync(template, TEMPLATE);
    const args = ['configure', this.name, '--contact-email', 'me@example.com', '--id-mapping-config', rules];
    const { status, stderr } = await this.client.run('globus-compute-endpoint', [...args, '--template-config', template]);
    if (status !== 0) throw new Error(`configure: ${stderr}`);
    appendFileSync(join(this.dir, 'config.yaml'), 'heartbeat_period: 5\n');
    this.writeUserEnvironment(userEnvironment);
    return this;
  }

  /** A root endpoint starts its user endpoints with a cleared environment. */
  writeUserEnvironment(variables: Record<string, string> = {}): void {
    const { PATH = '', GLOBUS_COMPUTE_USER_DIR = '' } = this.client.env;
    const lines = Object.entries({ PATH, GLOBUS_COMPUTE_USER_DIR, ...variables }).map(([name, value]) => `${name}: "${value}"\n`);
    writeFileSync(join(this.dir, 'user_environment.yaml'), lines.join(''));
  }

  /** Resolves when the service says that it is online. */
  async start(): Promise<this> {
    const out = openSync(this.log, 'a');
    // It signals its whole process group when it stops, so it gets one of its own.
    const child = spawn(join(this.client.bin, 'globus-compute-endpoint'), ['start', this.name], {
      env: this.client.env,
      stdio: ['ignore', out, out],
      detached: true,
    });
    this.#process = child;
    let failure: Error | undefined;
    child.once('error', (error) => (failure = error));
    await this.untilStatus('online', () => {
      if (failure) throw failure;
      if (child.exitCode !== null) throw new Error(`the endpoint ended with ${child.exitCode}: ${this.readLog()}`);
    });
    return this;
  }

  readLog(): string {
    return readFileSync(this.log, 'utf8').slice(-3_000);
  }

  async status(): Promise<string> {
    return (await new Http(this.client.credentials).ok('GET', `/v2/endpoints/${this.id}/status`)).status as string;
  }

  async untilStatus(wanted: 'online' | 'offline', check: () => void = () => undefined): Promise<void> {
    await until(
      `endpoint ${this.name} is ${wanted}`,
      async () => {
        check();
        return existsSync(join(this.dir, 'endpoint.json')) && (await this.status()) === wanted;
      },
      { deadlineMs: 60_000, everyMs: 200 },
    );
  }

  async untilExit(): Promise<number | null> {
    const child = this.#process;
    if (!child) throw new Error('the endpoint was not started by this test');
    if (child.exitCode === null && child.signalCode === null) await new Promise((resolve) => child.once('exit', resolve));
    this.#process = undefined;
    return child.exitCode;
  }

  async stop(): Promise<void> {
    const child = this.#process;
    if (!child) return;
    child.kill('SIGTERM');
    await this.untilExit();
  }

  /** Pids of the user endpoints that run, by their pid files. */
  userPids(): number[] {
    const child = this.#process?.pid;
    if (child === undefined) return [];
    return childrenOf(child).filter((pid) => /uep\./.test(commandLine(pid)));
  }
}

function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch {
    return '';
  }
}

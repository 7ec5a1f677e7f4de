import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { createWriteStream, existsSync, mkdirSync, mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { Client, Connection } from '@temporalio/client';
import { Pool } from 'pg';

import { submissionIdOf } from '../../contracts/ids';
import { JSON_RESULT_SERIALIZER, packJsonArguments, splitBuffer } from '../../contracts/packing';
import { COMPUTE_SCOPE } from '../../contracts/scopes';
import type { SystemState } from '../../local/setup/state';
import { until } from './until';

/** The running system as a test sees it: from outside, over its public surfaces, plus the engines for looking in. */

const ROOT = join(__dirname, '..', '..');

export const dataDir = (): string => {
  const dir = process.env.FUNCX_TEST_DATA_DIR;
  if (dir === undefined) throw new Error('no system was started for this test');
  return dir;
};

export const state = (): SystemState => JSON.parse(readFileSync(join(dataDir(), 'run', 'state.json'), 'utf8')) as SystemState;

/** The environment of one of the service's processes. */
export const serviceEnv = (name: 'api' | 'workers' | 'endpoint'): Record<string, string> => {
  const file = state().env_files[name];
  if (file === undefined) throw new Error(`${name} has no environment file`);
  return JSON.parse(readFileSync(file, 'utf8')) as Record<string, string>;
};

export interface Credentials {
  client_id: string;
  client_secret: string;
}

export const admin = (): Credentials => JSON.parse(readFileSync(state().identity_file, 'utf8')) as Credentials;

/**
 * A program that a test waited for blocked this process: only now it reads that the API closed idle connections meanwhile. The
 * first immediate may come before the sockets are read.
 */
async function readClosed(): Promise<void> {
  for (let turn = 0; turn < 2; turn++) await new Promise((resolve) => setImmediate(resolve));
}

export async function tokenOf({ client_id, client_secret }: Credentials): Promise<string> {
  await readClosed();
  const response = await fetch(`${state().api_url}/v2/oauth2/token`, {
    method: 'POST',
    headers: {
      authorization: `Basic ${Buffer.from(`${client_id}:${client_secret}`).toString('base64')}`,
      'content-type': 'application/x-www-form-urlencoded',
    },
    body: `grant_type=client_credentials&scope=${encodeURIComponent(COMPUTE_SCOPE)}`,
  });
  if (response.status !== 200) throw new Error(`no token: ${response.status} ${await response.text()}`);
  return ((await response.json()) as { access_token: string }).access_token;
}

export interface Reply {
  status: number;
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- tests look into answers of every shape
  body: any;
  headers: Headers;
}

/** A client of the HTTP interface for one identity. */
export class Http {
  #token: string | undefined;
  constructor(readonly credentials: Credentials = admin()) {}

  async token(): Promise<string> {
    return (this.#token ??= await tokenOf(this.credentials));
  }

  async request(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Reply> {
    const token = await this.token();
    await readClosed();
    const response = await fetch(state().api_url + path, {
      method,
      headers: {
        authorization: `Bearer ${token}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      body: body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body),
    });
    const text = await response.text();
    const isJson = response.headers.get('content-type')?.includes('json');
    return { status: response.status, body: isJson ? (JSON.parse(text) as unknown) : text, headers: response.headers };
  }

  async ok(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Reply['body']> {
    const reply = await this.request(method, path, body, headers);
    if (reply.status >= 300) throw new Error(`${method} ${path}: ${reply.status} ${JSON.stringify(reply.body)}`);
    return reply.body;
  }

  async register(
    name: string,
    source: string,
    language: 'python' | 'javascript' | 'shell' = 'python',
    extra: object = {},
  ): Promise<string> {
    const body = { function_name: name, function_code: source, serialized: false, language, meta: {}, ...extra };
    return (await this.ok('POST', '/v3/functions', body)).function_uuid as string;
  }

  /** Submits one call and returns the ID of its task. */
  async submitOne(
    endpointId: string,
    functionId: string,
    args: readonly unknown[],
    extra: Record<string, unknown> = {},
    headers: Record<string, string> = {},
  ): Promise<string> {
    const { taskIds } = await this.submit(endpointId, functionId, [[...args]], extra, headers);
    return taskIds[0]!; // one call makes one task
  }

  /** Submits calls with JSON arguments; returns the ids in order. */
  async submit(
    endpointId: string,
    functionId: string,
    calls: readonly unknown[][],
    extra: Record<string, unknown> = {},
    headers: Record<string, string> = {},
  ): Promise<{ taskIds: string[]; groupId: string }> {
    const reply = await this.ok(
      'POST',
      `/v3/endpoints/${endpointId}/submit`,
      {
        create_queue: false,
        tasks: { [functionId]: calls.map((args) => packJsonArguments(args)) },
        result_serializers: [JSON_RESULT_SERIALIZER],
        user_runtime: {},
        ...extra,
      },
      headers,
    );
    return { taskIds: reply.tasks[functionId] as string[], groupId: reply.task_group_id as string };
  }

  async task(id: string): Promise<Reply['body']> {
    return this.ok('GET', `/v1/tasks/${id}`);
  }

  /** The value of a task, once it has one; a failed task rejects with its text. */
  async value(id: string, deadlineMs = 60_000): Promise<unknown> {
    const document = await this.answer(id, deadlineMs);
    if (document.status !== 'success') throw new Error(String(document.exception));
    return JSON.parse(splitBuffer(document.result as string).body) as unknown;
  }

  async answer(id: string, deadlineMs = 60_000): Promise<Reply['body']> {
    return until(
      `task ${id} is answered`,
      async () => {
        const document = await this.ok('GET', `/v1/tasks/${id}?wait_s=5`);
        return ['success', 'failed'].includes(document.status as string) ? (document as object) : undefined;
      },
      { deadlineMs },
    );
  }
}

/** The id of the workflow that runs this submission, or the submission of this task, of the administrator. */
export async function workflowIdOf(id: string): Promise<string> {
  const { workflow_id: workflowId } = await new Http().ok('GET', `/v1/submissions/${submissionIdOf(id)}`);
  return workflowId as string;
}

export const localEndpoint = (): string => {
  const id = state().endpoint?.id;
  if (!id) throw new Error('the system has no local endpoint');
  return id;
};

export const pidOf = (name: string): number => {
  const pid = state().services.find((service) => service.name === name)?.pid;
  if (!pid) throw new Error(`${name} does not run`);
  return pid;
};

export const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

/** Kills a process of the service and waits until the supervisor's next one is ready. */
export async function killAndWait(name: 'api' | 'workers' | 'endpoint' | 'postgres' | 'temporal' | 'rabbitmq'): Promise<void> {
  const before = pidOf(name);
  process.kill(before, 'SIGKILL');
  await until(`${name} runs again`, () => {
    const service = state().services.find((one) => one.name === name);
    return service?.pid && service.pid !== before && service.state === 'ready' ? true : undefined;
  });
}

export interface CommandResult {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** `./bin/funcx` against the system of the tests. */
export function funcx(args: readonly string[], env: Record<string, string> = {}, timeout = 60_000, input = ''): CommandResult {
  const { status, stdout, stderr } = spawnSync(join(ROOT, 'bin', 'funcx'), args, {
    encoding: 'utf8',
    timeout,
    input,
    env: { ...process.env, FUNCX_DATA_DIR: dataDir(), ...env },
  });
  return { status, stdout, stderr };
}

/** The same, for a command that goes on while the test does something else. */
export function startFuncx(
  args: readonly string[],
  env: Record<string, string> = {},
): {
  stdout: () => string;
  stderr: () => string;
  exit: Promise<number | null>;
  kill: (signal: NodeJS.Signals) => void;
} {
  const child = spawn(join(ROOT, 'bin', 'funcx'), args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, FUNCX_DATA_DIR: dataDir(), ...env },
  });
  const seen = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk: Buffer) => (seen.stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (seen.stderr += chunk.toString()));
  return {
    stdout: () => seen.stdout,
    stderr: () => seen.stderr,
    exit: new Promise((resolve) => child.once('close', resolve)),
    kill: (signal) => void child.kill(signal),
  };
}

/** Another agent of ours, beside the local one. */
export class Agent {
  #process: ChildProcess | undefined;
  readonly dir: string;

  constructor(
    readonly name: string,
    private readonly env: Record<string, string> = {},
    private readonly credentials: Credentials = admin(),
  ) {
    this.dir = mkdtempSync(join(tmpdir(), `funcx-agent-${name}-`));
  }

  get id(): string {
    const file = join(this.dir, 'endpoint.json');
    return (JSON.parse(readFileSync(file, 'utf8')) as { endpoint_id: string }).endpoint_id;
  }

  get pid(): number {
    const pid = this.#process?.pid;
    if (pid === undefined) throw new Error(`agent ${this.name} does not run`);
    return pid;
  }

  /** Resolves when the agent is connected and the service knows. */
  async start(env: Record<string, string> = {}): Promise<this> {
    mkdirSync(this.dir, { recursive: true });
    const log = createWriteStream(join(this.dir, 'agent.log'), { flags: 'a' });
    // An id of its own: that of the system's local endpoint is taken.
    const { FUNCX_ENDPOINT_ID: _id, FUNCX_ENDPOINT_PUBLIC: _public, ...shared } = serviceEnv('endpoint');
    const child = spawn(process.execPath, ['--enable-source-maps', join(ROOT, 'dist', 'endpoint', 'main.js')], {
      env: {
        ...process.env,
        ...shared,
        FUNCX_CLIENT_ID: this.credentials.client_id,
        FUNCX_CLIENT_SECRET: this.credentials.client_secret,
        FUNCX_ENDPOINT_NAME: this.name,
        FUNCX_ENDPOINT_DIR: this.dir,
        ...this.env,
        ...env,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    child.stdout.pipe(log, { end: false });
    child.stderr.pipe(log, { end: false });
    this.#process = child;
    const http = new Http(this.credentials);
    await until(`agent ${this.name} is online`, async () => {
      if (child.exitCode !== null) throw new Error(`the agent ended with ${child.exitCode}; see ${this.dir}/agent.log`);
      if (!existsSync(join(this.dir, 'endpoint.json'))) return undefined;
      const { body } = await http.request('GET', `/v2/endpoints/${this.id}/status`);
      return body.status === 'online' ? true : undefined;
    });
    return this;
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const child = this.#process;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    await gone;
    this.#process = undefined;
  }

  /** Stops its Python workers by SIGSTOP: a call that starts now runs until {@link thaw}. */
  async freeze(): Promise<void> {
    await until(`agent ${this.name} has Python workers`, () => this.#signalWorkers('SIGSTOP') > 0);
  }

  thaw(): void {
    if (this.#process) this.#signalWorkers('SIGCONT');
  }

  #signalWorkers(signal: NodeJS.Signals): number {
    const children = readFileSync(`/proc/${this.pid}/task/${this.pid}/children`, 'utf8').trim().split(' ').filter(Boolean);
    const workers = children.map(Number).filter((pid) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('python-worker'));
    for (const pid of workers) process.kill(pid, signal);
    return workers.length;
  }

  /** Until the service has noticed that the agent is away. */
  async untilOffline(): Promise<void> {
    const http = new Http(this.credentials);
    await until(`agent ${this.name} is offline`, async () => {
      return (await http.ok('GET', `/v2/endpoints/${this.id}/status`)).status === 'offline' ? true : undefined;
    });
  }
}

/** The store, for looking in. Closed by the test. */
export const openStore = (): Pool => new Pool({ connectionString: serviceEnv('api').DATABASE_URL, max: 2 });

/** The Temporal server as the UI sees it. Closed by the test. */
export async function openTemporal(): Promise<{ client: Client; close(): Promise<void> }> {
  const connection = await Connection.connect({ address: state().temporal_address });
  return { client: new Client({ connection }), close: () => connection.close() };
}

/** RabbitMQ's management interface. */
export async function management(path: string, init: RequestInit = {}): Promise<Reply['body']> {
  const url = new URL(serviceEnv('api').AMQP_MANAGEMENT_URL ?? '');
  const authorization = `Basic ${Buffer.from(`${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`).toString('base64')}`;
  const response = await fetch(`${url.origin}/api/${path}`, {
    ...init,
    headers: { authorization, 'content-type': 'application/json' },
  });
  const text = await response.text();
  return text === '' ? undefined : (JSON.parse(text) as unknown);
}

import { randomUUID } from 'node:crypto';
import { Agent, request } from 'node:http';

import { connect, type Channel, type ChannelModel, type ConsumeMessage } from 'amqplib';

import { decodeBatch, isBatch } from '../contracts/batches';
import { batchQueueOf } from '../contracts/names';
import type { Credentials, MeasuredSystem } from './system';

/**
 * A minimal client that uses public interfaces only: submits over HTTP, reads results from the task group's queue. So the
 * benchmark measures the service and not a client library.
 */

const SCOPE = 'https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all';
const JSON_RESULTS = 'globus_compute_sdk.serialize.JSONData';
/** Functions that the benchmarks call. */
export const NOOP = 'def noop():\n    return None\n';
export const ECHO = 'def echo(value):\n    return value\n';

const FRAME_HEADER_BYTES = 1;
const PREFETCH = 5_000;

export interface ResultFrame {
  message_type: string;
  data: { task_id: string; data: string; error_details?: { code: string } | null };
}

export class BenchClient {
  readonly groupId = randomUUID();
  readonly #http = new Agent({ keepAlive: true, maxSockets: 64 });
  readonly #waiting = new Map<string, (frame: ResultFrame) => void>();
  /** Results that arrived before the response to their submit. */
  readonly #early = new Map<string, ResultFrame>();
  #token = '';
  #queueName = '';
  #model: ChannelModel | undefined;

  private constructor(
    private readonly system: MeasuredSystem,
    private readonly credentials: Credentials,
  ) {}

  /** Connects a client with its own task group. The default identity is the system's administrator. */
  static async connect(system: MeasuredSystem, credentials: Credentials = system.credentials): Promise<BenchClient> {
    const client = new BenchClient(system, credentials);
    await client.#authenticate();
    await client.#connectBroker();
    return client;
  }

  /** Registers a Python function by source and returns its ID. */
  async register(name: string, source: string): Promise<string> {
    const body = { function_name: name, function_code: source, serialized: false, meta: {} };
    return ((await this.#json('POST', '/v3/functions', body)) as { function_uuid: string }).function_uuid;
  }

  /** Submits calls with these JSON arguments. Resolves to one promise per result, in task order. */
  async submit(
    functionId: string,
    count: number,
    { endpointId = this.system.endpointId, args = [] }: { endpointId?: string; args?: readonly unknown[] } = {},
  ): Promise<Promise<ResultFrame>[]> {
    const payload = packArguments(args);
    const accepted = (await this.#json('POST', `/v3/endpoints/${endpointId}/submit`, {
      create_queue: true,
      result_batches: true,
      task_group_id: this.groupId,
      tasks: { [functionId]: Array.from({ length: count }, () => payload) },
      result_serializers: [JSON_RESULTS],
      user_runtime: {},
    })) as { tasks: Record<string, string[]> };
    return (accepted.tasks[functionId] ?? []).map((id) => this.#resultOf(id));
  }

  /** Creates an identity. Only an administrator can do this. */
  async createIdentity(name: string): Promise<Credentials> {
    const made = (await this.#json('POST', '/v1/identities', { name, is_admin: false })) as {
      client_id: string;
      client_secret: string;
    };
    return { clientId: made.client_id, clientSecret: made.client_secret };
  }

  async isOnline(endpointId: string): Promise<boolean> {
    return ((await this.#json('GET', `/v2/endpoints/${endpointId}/status`)) as { status: string }).status === 'online';
  }

  async deleteEndpoint(endpointId: string): Promise<void> {
    await this.#send('DELETE', `/v2/endpoints/${endpointId}`, undefined);
  }

  /** Reads the API's metrics. The keys are names with labels, such as `funcx_workflow_starts_total{eager="true"}`. */
  async metrics(): Promise<Map<string, number>> {
    const text = await this.#send('GET', '/metrics', undefined);
    const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
    return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]));
  }

  async close(): Promise<void> {
    await this.#model?.close();
    this.#http.destroy();
  }

  async #resultOf(taskId: string): Promise<ResultFrame> {
    const early = this.#early.get(taskId);
    this.#early.delete(taskId);
    const frame = early ?? (await new Promise<ResultFrame>((resolve) => this.#waiting.set(taskId, resolve)));
    if (frame.data.error_details) throw new Error(`task ${taskId} failed: ${frame.data.data}`);
    return frame;
  }

  async #authenticate(): Promise<void> {
    const { clientId, clientSecret } = this.credentials;
    const form = new URLSearchParams({ grant_type: 'client_credentials', scope: SCOPE });
    const answer = await fetch(`${this.system.apiUrl}/v2/oauth2/token`, {
      method: 'POST',
      headers: { authorization: `Basic ${Buffer.from(`${clientId}:${clientSecret}`).toString('base64')}` },
      body: form,
    });
    if (!answer.ok) throw new Error(`no token: ${answer.status} ${await answer.text()}`);
    this.#token = ((await answer.json()) as { access_token: string }).access_token;
  }

  async #connectBroker(): Promise<void> {
    const { connection_url, queue_prefix, ca } = (await this.#json(
      'GET',
      '/v2/get_amqp_result_connection_url?client=funcx',
    )) as ResultConnection;
    this.#model = await connect(connection_url, { noDelay: true, ...(ca === undefined ? {} : { ca: [Buffer.from(ca)] }) });
    this.#queueName = batchQueueOf(queue_prefix + this.groupId);
  }

  /** Creates the group's queue by a first call and starts to consume it. */
  async warmUp(functionId: string, options: { endpointId?: string; args?: readonly unknown[] } = {}): Promise<void> {
    const first = await this.submit(functionId, 1, options);
    await this.#consume();
    await Promise.all(first);
  }

  async #consume(): Promise<void> {
    const channel: Channel = await this.#model!.createChannel(); // set by connect()
    await channel.prefetch(PREFETCH);
    await channel.consume(this.#queueName, (message) => {
      if (message === null) return;
      this.#receive(message);
      channel.ack(message);
    });
  }

  #receive(message: ConsumeMessage): void {
    const { content } = message;
    const bodies = isBatch(content) ? decodeBatch(content).map(({ body }) => Buffer.from(body)) : [content];
    for (const body of bodies) this.#receiveResult(body);
  }

  #receiveResult(body: Buffer): void {
    const frame = JSON.parse(body.subarray(FRAME_HEADER_BYTES).toString('utf8')) as ResultFrame;
    const waiting = this.#waiting.get(frame.data.task_id);
    this.#waiting.delete(frame.data.task_id);
    if (waiting) waiting(frame);
    else this.#early.set(frame.data.task_id, frame);
  }

  async #json(method: string, path: string, body?: unknown): Promise<unknown> {
    return JSON.parse(await this.#send(method, path, body)) as unknown;
  }

  #send(method: string, path: string, body: unknown): Promise<string> {
    const content = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    return new Promise((resolve, reject) => {
      const sent = request(
        this.system.apiUrl + path,
        {
          method,
          agent: this.#http,
          headers: {
            authorization: `Bearer ${this.#token}`,
            ...(content ? { 'content-type': 'application/json', 'content-length': content.length } : {}),
          },
        },
        (response) => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.on('error', reject);
          response.on('end', () => {
            const text = Buffer.concat(chunks).toString('utf8');
            if ((response.statusCode ?? 500) < 300) resolve(text);
            else reject(new Error(`${method} ${path}: ${response.statusCode} ${text}`));
          });
        },
      );
      sent.on('error', reject);
      sent.setNoDelay(true);
      sent.end(content);
    });
  }
}

interface ResultConnection {
  connection_url: string;
  queue_prefix: string;
  ca?: string;
}

/** Positional, then keyword arguments, each a packed JSON buffer: length, newline, identifier, newline, body. */
function packArguments(args: readonly unknown[]): string {
  const body = `11\n${JSON.stringify(args)}`;
  return `${body.length}\n${body}5\n11\n{}`;
}

import { open, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';

import { connect, type ChannelModel } from 'amqplib';
import type { Pool } from 'pg';

import { dataDir, management, serviceEnv } from './system';

/** Counts what calls cost, without a clock: messages on the broker and statements at PostgreSQL. */

const TRACE_EXCHANGE = 'amq.rabbitmq.trace';
const VHOST = 'vhosts/funcx';

export interface TracedMessage {
  /** Publish: the exchange, empty for the default exchange. Delivery: the queue. */
  place: string;
  isPublish: boolean;
  routingKeys: string[];
  bytes: number;
}

/** Every message that the broker receives or delivers, by its own tracing. */
export class BrokerTrace {
  readonly messages: TracedMessage[] = [];

  private constructor(private readonly model: ChannelModel) {}

  static async start(): Promise<BrokerTrace> {
    const model = await connect(serviceEnv('api').AMQP_URL ?? '', { noDelay: true });
    const trace = new BrokerTrace(model);
    const channel = await model.createChannel();
    const { queue } = await channel.assertQueue('', { exclusive: true });
    for (const pattern of ['publish.#', 'deliver.#']) await channel.bindQueue(queue, TRACE_EXCHANGE, pattern);
    await channel.consume(
      queue,
      (message) => {
        if (!message) return;
        const [kind = '', ...place] = message.fields.routingKey.split('.');
        const keys: unknown = message.properties.headers?.routing_keys;
        trace.messages.push({
          place: place.join('.'),
          isPublish: kind === 'publish',
          routingKeys: keys as string[],
          bytes: message.content.length,
        });
      },
      { noAck: true },
    );
    await management(VHOST, { method: 'PUT', body: JSON.stringify({ tracing: true }) });
    return trace;
  }

  /** Published messages whose exchange or routing key matches. */
  published(pattern: RegExp): TracedMessage[] {
    return this.messages.filter(
      ({ isPublish, place, routingKeys }) => isPublish && [place, ...routingKeys].some((name) => pattern.test(name)),
    );
  }

  async stop(): Promise<void> {
    await management(VHOST, { method: 'PUT', body: JSON.stringify({ tracing: false }) });
    await this.model.close();
  }
}

/** What runs by the clock, not because of a call. */
const PERIODIC =
  /^(record-heartbeat|mark-running|list-suspects|note-missing|sweep-offline|list-unsignalled|mark-signalled|list-returning|list-overdue-submissions|list-undelivered-groups|is-delivered|states|list-gone-with-tasks|list-waiting-user-endpoints|list-processes|renew-lease|end-exclusive-run)$|api_processes|select 1$|s\.started_at is null and s\.created_at|workflow_started_at|command_sent_at|reconcile|unanswered_requests where|open_submissions|swept_at|idle_in_transaction|pg_/;

/** The statements that PostgreSQL logs from `start` on, without those that run by the clock. */
export class StatementLog {
  private constructor(
    private readonly store: Pool,
    private readonly file: FileHandle,
    private position: number,
  ) {}

  static async start(store: Pool): Promise<StatementLog> {
    await store.query('alter system set log_parameter_max_length = 0');
    await store.query(`alter system set log_statement = 'all'`);
    await store.query('select pg_reload_conf()');
    const file = await open(join(dataDir(), 'logs', 'postgres.log'));
    return new StatementLog(store, file, (await file.stat()).size);
  }

  /** The number of executions since the last call, by the statement's name or text. */
  async counts(): Promise<Map<string, number>> {
    const { size } = await this.file.stat();
    const bytes = Buffer.alloc(size - this.position);
    await this.file.read(bytes, 0, bytes.length, this.position);
    this.position = size;
    const counts = new Map<string, number>();
    // The continuation lines of one statement begin with a tab.
    for (const entry of bytes
      .toString('utf8')
      .replace(/\n\t\s*/g, ' ')
      .split('\n')) {
      const found = /LOG: {2}(?:execute ([^:]+): |statement: )(.*)$/.exec(entry);
      if (!found) continue;
      const [, name, text = ''] = found;
      const key = name === undefined || name === '<unnamed>' ? text : name;
      if (!PERIODIC.test(key)) counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    return counts;
  }

  async stop(): Promise<void> {
    await this.store.query('alter system reset log_statement');
    await this.store.query('alter system reset log_parameter_max_length');
    await this.store.query('select pg_reload_conf()');
    await this.file.close();
  }
}

import { connect, createServer, type Server, type Socket } from 'node:net';

import { Broker } from '../../broker';
import { serviceEnv } from '../helpers/system';
import { until } from '../helpers/until';

/** A connection to the broker that is lost while it closes: the broker never confirms the close. */

const CUT_MS = 300;
const DEADLINE_MS = 10_000;

interface Link {
  client: Socket;
  broker: Socket;
}

/** Passes bytes between its clients and the broker, until a test mutes or cuts a connection. */
class Proxy {
  readonly links: Link[] = [];
  #server!: Server;

  async listen(target: URL): Promise<URL> {
    this.#server = createServer((client) => {
      const broker = connect(Number(target.port), target.hostname);
      this.links.push({ client, broker });
      client.pipe(broker).pipe(client);
      for (const socket of [client, broker]) socket.on('error', () => undefined);
    });
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    const address = new URL(target);
    address.host = `127.0.0.1:${(this.#server.address() as { port: number }).port}`;
    return address;
  }

  /** The broker no longer hears these clients, and their connections are lost a moment later. */
  muteThenCut(links: readonly Link[]): void {
    for (const { client, broker } of links) {
      client.unpipe(broker);
      client.resume();
    }
    setTimeout(() => this.cut(links), CUT_MS);
  }

  cut(links: readonly Link[]): void {
    for (const { client, broker } of links) {
      client.destroy();
      broker.destroy();
    }
  }

  async close(): Promise<void> {
    this.cut(this.links);
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

let proxy: Proxy;
let broker: Broker;
const log = { info: () => undefined, warn: () => undefined };

beforeEach(async () => {
  proxy = new Proxy();
  const url = await proxy.listen(new URL(serviceEnv('api').AMQP_URL ?? ''));
  broker = new Broker({ name: 'broker-cut', log, address: () => Promise.resolve({ url: url.toString() }), maxBackoffMs: 200 });
});
afterEach(async () => {
  await broker.close();
  await proxy.close();
});

test('a connection that is lost while it is set up is opened again', async () => {
  let setups = 0;
  await broker.publisher();
  broker.onSetup(async () => {
    if (++setups > 1) return;
    const [control, publishing] = proxy.links;
    if (!control || !publishing) throw new Error('there are not two connections');
    proxy.muteThenCut([publishing]);
    proxy.cut([control]);
    throw new Error('the set-up fails with its connection');
  });
  const started = broker.start();
  started.catch(() => undefined);
  await until('the broker is connected', () => broker.isConnected, { deadlineMs: DEADLINE_MS });
  await started;
  expect(setups).toBe(2);
});

test('work on a channel ends when the connection is lost before the broker confirms that the channel is closed', async () => {
  await broker.start();
  let isOver = false;
  const work = broker.withChannel(async () => {
    proxy.muteThenCut([...proxy.links]);
    return 'done';
  });
  void work.then(() => (isOver = true));
  await until('the work ends', () => isOver, { deadlineMs: DEADLINE_MS });
  expect(await work).toBe('done');
});

import { Client, Executor, javascript } from '../../sdk/index';
import { evaluateInBroker } from '../helpers/broker-node';
import { OwnSystem } from '../helpers/own-system';

/** A broker that takes no message over 16 MiB, which is the default from RabbitMQ 4 on: larger calls and results go by HTTP. */

const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;
/** Each is one character of a result, two of its JSON, and four of the message around it. */
const QUOTES = 4_900_000;

let system: OwnSystem;
let client: Client;
beforeAll(async () => {
  system = await OwnSystem.start();
  evaluateInBroker(system, `application:set_env(rabbit, max_message_size, ${MAX_MESSAGE_BYTES}).`); // of later channels
  const limit = { FUNCX_MAX_MESSAGE_BYTES: String(MAX_MESSAGE_BYTES) };
  await Promise.all([system.run('api', limit), system.run('workers', limit)]);
  await system.run('endpoint');
  const { client_id: clientId, client_secret: clientSecret } = system.credentials;
  const { api_url: apiUrl, ca_file: caFile } = system.state;
  client = new Client({ apiUrl, clientId, clientSecret, ...(caFile === null ? {} : { ca: caFile }) });
}, 120_000);
afterAll(async () => {
  client?.close();
  await system?.stop();
}, 60_000);

test('a result that no message to the submitter can hold is a failed answer that says so, and those beside it arrive', async () => {
  const executor = new Executor({ client, endpointId: system.endpointId(), transport: 'amqp' });
  const quotes = (n: number): string => '"'.repeat(n);
  const [small, large, after] = [executor.submit(quotes, 2), executor.submit(quotes, QUOTES), executor.submit(quotes, 3)];
  await expect(large).rejects.toThrow(/MaxResultSizeExceeded|message broker takes 16777216/);
  expect(await Promise.all([small, after])).toEqual(['""', '"""']);
  expect(await executor.submit(quotes, 1)).toBe('"');
  expect((await executor.submit(quotes, 3_000_000)).length).toBe(3_000_000); // 12 MB
  expect(executor.transport).toBe('amqp');
  await executor.close();
});

test('a function and arguments that no message can hold run, and so does what is behind them', async () => {
  const executor = new Executor({ client, endpointId: system.endpointId() });
  const source = `function large(text) { return text.length; } //${'"'.repeat(7_000_000)}`;
  const large = executor.submit(javascript(source), '"'.repeat(1_000_000));
  const behind = executor.submit(() => 'behind');
  expect(await large).toBe(1_000_000);
  expect(await behind).toBe('behind');
  await executor.close();
});

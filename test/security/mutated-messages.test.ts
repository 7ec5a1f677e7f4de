import { randomUUID } from 'node:crypto';

import type { ActivityDeps } from '../../activities/deps';
import type { Broker, ConsumerOptions } from '../../broker';
import { encodeBatch } from '../../contracts/batches';
import { encodeFrame } from '../../contracts/frames';
import { resultKey } from '../../contracts/names';
import { createLogger } from '../../platform/log';
import { startResultLoop } from '../../workers/result-loop';
import { ResultsInHand } from '../../workers/results-in-hand';
import { configFor } from '../helpers/api-harness';
import { MUTATIONS, pick, randomFrom, SEED, type Random } from '../helpers/mutations';
import { startScratchPostgres, type ScratchPostgres } from '../helpers/scratch-postgres';
import { claim, makeFixture, submit, type StoreFixture } from '../helpers/store-fixture';

/** A hostile agent that publishes mutated results: each is settled, and no task of another agent gets an answer from them. */

const BATCH_LIMIT = 50;
let postgres: ScratchPostgres;
beforeAll(async () => {
  postgres = await startScratchPostgres();
}, 120_000);
afterAll(() => postgres?.stop(), 60_000);

interface Message {
  body: Buffer;
  headers: Record<string, unknown>;
}

function mutated(random: Random, taskIds: readonly string[]): Message {
  const text = pick(random, ['x', '', '\u0000', 'é'.repeat(1_000), '\ud800', '11\n1']);
  const data = { task_id: pick(random, taskIds), data: text, ...(random() < 0.2 ? { details: { a: [1, null, text] } } : {}) };
  const frame = Buffer.from(encodeFrame({ message_type: 'result', data }));
  const headers: Record<string, unknown> = { 'funcx-attempt': pick(random, [1, 1, 2, 0, -1, 1.5, 2 ** 31, 'x', null, [], {}]) };
  if (random() < 0.2) headers['funcx-stored'] = pick(random, [true, false, 'true', 1]);
  let body =
    random() < 0.3
      ? Buffer.from(
          encodeBatch([
            { headers, body: frame },
            { headers, body: frame },
          ]),
        )
      : frame;
  if (random() < 0.7) body[Math.floor(random() * body.length)] = Math.floor(random() * 256);
  if (random() < 0.2) body = body.subarray(0, Math.floor(random() * body.length));
  if (random() < 0.1) body = Buffer.concat([body, body]);
  return { body, headers };
}

test(`${MUTATIONS} mutated results are settled, and the tasks of another endpoint stay open`, async () => {
  process.stdout.write(`mutated results: FUNCX_SEED=${SEED} FUNCX_MUTATIONS=${MUTATIONS}\n`);
  const [victim, hostile]: StoreFixture[] = [await makeFixture(postgres.db), await makeFixture(postgres.db)];
  const { taskIds } = await submit(postgres.db, victim!, 5); // both were made
  await claim(postgres.db, victim!);
  let onMessage: ConsumerOptions['onMessage'] | undefined;
  const broker = {
    consume: async (options: ConsumerOptions) => {
      onMessage = options.onMessage;
      return { isConsuming: true, pause: async () => undefined, close: async () => undefined };
    },
  } as unknown as Broker;
  const putAside: unknown[] = [];
  const deps = {
    config: configFor(),
    log: createLogger('mutations-test', 'silent'),
    db: postgres.db,
    publisher: { publish: async (...sent: unknown[]) => void putAside.push(sent) },
    temporal: { nudge: async () => true },
  } as unknown as ActivityDeps;
  const loop = await startResultLoop(broker, deps, async (message) => message.ack(), {
    guard: { drops: () => false, note: () => undefined },
    inHand: new ResultsInHand(),
  });
  const random = randomFrom(SEED);
  let settled = 0;
  const rssBefore = process.memoryUsage().rss;
  for (let sent = 0; sent < MUTATIONS; sent += BATCH_LIMIT) {
    await Promise.all(
      Array.from({ length: BATCH_LIMIT }, async () => {
        const message = mutated(random, [...taskIds, randomUUID()]);
        let done = false;
        const settle = (): void => {
          if (!done) settled++;
          done = true;
        };
        await onMessage?.({ ...message, routingKey: resultKey(hostile!.endpointId), ack: settle, nack: settle });
      }),
    );
  }
  await loop.close();
  expect(settled).toBe(Math.ceil(MUTATIONS / BATCH_LIMIT) * BATCH_LIMIT);
  expect(putAside.length).toBeGreaterThan(MUTATIONS / 10);
  const { rows } = await postgres.db.query<{ state: string }>('select state from tasks where id = any ($1)', [taskIds]);
  expect(rows.map(({ state }) => state)).toEqual(taskIds.map(() => 'dispatched'));
  expect((process.memoryUsage().rss - rssBefore) / 2 ** 20).toBeLessThan(300);
}, 600_000);

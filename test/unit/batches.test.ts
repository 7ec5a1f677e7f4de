import fc from 'fast-check';

import type { ReceivedMessage } from '../../broker';
import { splitBatch } from '../../broker';
import {
  decodeBatch,
  encodeBatch,
  groupIntoBatches,
  MAX_BATCH_BYTES,
  MAX_BATCH_MESSAGES,
  type BatchMessage,
} from '../../contracts/batches';
import { ResultBatches, type ResultMessage } from '../../endpoint/result-batches';

const message = fc.record({
  headers: fc.dictionary(
    fc.string().filter((name) => name !== '__proto__'),
    fc.oneof(fc.integer(), fc.string(), fc.boolean()),
  ),
  body: fc.uint8Array({ maxLength: 50 }),
});

describe('a batch on the broker', () => {
  test('has the messages that were put into it, in their order', () => {
    fc.assert(
      fc.property(fc.array(message, { minLength: 1, maxLength: MAX_BATCH_MESSAGES }), (messages) => {
        const decoded = decodeBatch(encodeBatch(messages));
        expect(decoded.map(({ headers, body }) => ({ headers, body: [...body] }))).toEqual(
          messages.map(({ headers, body }) => ({ headers: { ...headers }, body: [...body] })),
        );
      }),
    );
  });

  test('that is cut short anywhere is refused as a whole', () => {
    const bytes = encodeBatch([
      { headers: { n: 1 }, body: Buffer.from('one') },
      { headers: {}, body: Buffer.from('two') },
    ]);
    const whole = encodeBatch([{ headers: { n: 1 }, body: Buffer.from('one') }]).length;
    for (let end = 0; end < bytes.length; end++) {
      if (end !== whole) expect(() => decodeBatch(bytes.subarray(0, end))).toThrow(SyntaxError);
    }
  });

  test('of whatever bytes ends with messages or with a sentence, and never with more messages than allowed', () => {
    const bytes = fc.uint8Array({ maxLength: 200 }).map((rest) => Buffer.concat([Buffer.from([2]), rest]));
    fc.assert(
      fc.property(bytes, (given) => {
        try {
          expect(decodeBatch(given).length).toBeLessThanOrEqual(MAX_BATCH_MESSAGES);
        } catch (error) {
          expect(error).toBeInstanceOf(SyntaxError);
          expect((error as Error).message).toMatch(/batch/);
        }
      }),
    );
    const many = Array.from({ length: MAX_BATCH_MESSAGES + 1 }, () => ({ headers: {}, body: Buffer.alloc(0) }));
    expect(() => decodeBatch(encodeBatch(many))).toThrow(/more than/);
    const lying = Buffer.from(encodeBatch([{ headers: {}, body: Buffer.alloc(3) }]));
    lying.writeUInt32BE(0xffffffff, 5);
    expect(() => decodeBatch(lying)).toThrow(/goes beyond the end of the batch/);
  });

  test('is bounded by count and by bytes, and loses and reorders nothing', () => {
    const sizes = fc.array(fc.integer({ min: 0, max: MAX_BATCH_BYTES + 10 }), { maxLength: 200 });
    fc.assert(
      fc.property(sizes, fc.integer({ min: 1, max: 100 }), (lengths, limit) => {
        const bodies = lengths.map((length) => ({ headers: {}, body: { length } as Uint8Array }));
        const batches = groupIntoBatches<BatchMessage>(bodies, limit);
        expect(batches.flat()).toEqual(bodies);
        for (const batch of batches) {
          expect(batch.length).toBeLessThanOrEqual(Math.min(limit, MAX_BATCH_MESSAGES));
          if (batch.length > 1)
            expect(batch.reduce((sum, { body }) => sum + body.length, 0)).toBeLessThanOrEqual(MAX_BATCH_BYTES);
        }
      }),
      { numRuns: 50 },
    );
  });
});

describe('the messages of a received batch', () => {
  function receive(count: number): { parts: ReceivedMessage[]; settled: string[] } {
    const settled: string[] = [];
    const parts = splitBatch({
      body: Buffer.from(encodeBatch(Array.from({ length: count }, (_, n) => ({ headers: { n }, body: Buffer.from(`${n}`) })))),
      routingKey: 'key',
      headers: {},
      ack: () => settled.push('ack'),
      nack: (requeue) => settled.push(requeue ? 'requeue' : 'reject'),
    });
    return { parts, settled };
  }

  test('are acknowledged together, with the last of them, and each counts once', () => {
    const { parts, settled } = receive(3);
    expect(parts.map(({ headers, body, routingKey }) => [headers.n, body.toString(), routingKey])).toEqual([
      [0, '0', 'key'],
      [1, '1', 'key'],
      [2, '2', 'key'],
    ]);
    parts[0]?.ack();
    parts[0]?.ack();
    parts[2]?.ack();
    expect([settled, parts[1]?.batch]).toEqual([[], { size: 3, open: 1 }]);
    parts[1]?.ack();
    expect(settled).toEqual(['ack']);
  });

  test('go back to the queue together, without waiting for those that still run, and only once', () => {
    const { parts, settled } = receive(3);
    parts[0]?.ack();
    parts[1]?.nack(true);
    parts[2]?.nack(true);
    parts[2]?.ack();
    expect(settled).toEqual(['requeue']);
  });

  test('are rejected together when one of them is malformed, after the others are done', () => {
    const { parts, settled } = receive(2);
    parts[0]?.nack(false);
    expect(settled).toEqual([]);
    parts[1]?.ack();
    expect(settled).toEqual(['reject']);
  });
});

describe('results on their way to the broker', () => {
  const result = (n: number, bytes = 10): ResultMessage => ({
    taskId: `${n}`,
    name: `${n}/1`,
    headers: {},
    body: { length: bytes } as Uint8Array,
  });
  function start(): { batches: ResultBatches; published: string[][]; confirm: ((error?: Error) => void)[] } {
    const published: string[][] = [];
    const confirm: ((error?: Error) => void)[] = [];
    const batches = new ResultBatches((messages) => {
      published.push(messages.map(({ taskId }) => taskId));
      return new Promise((resolve, reject) => confirm.push((error) => (error ? reject(error) : resolve())));
    });
    return { batches, published, confirm };
  }

  test('one that comes alone is published without waiting; those that come meanwhile share a message', async () => {
    const { batches, published, confirm } = start();
    const sent = [1, 2, 3].map((n) => batches.send(result(n)));
    expect(published).toEqual([['1']]);
    confirm[0]?.();
    await sent[0];
    expect(published).toEqual([['1'], ['2', '3']]);
    confirm[1]?.();
    await Promise.all(sent);
  });

  test('none waits for a confirm that is late', async () => {
    const { batches, published, confirm } = start();
    const sent = [1, 2].map((n) => batches.send(result(n)));
    for (const end = Date.now() + 5_000; published.length < 2 && Date.now() < end;) await new Promise((r) => setTimeout(r, 2));
    expect(published).toEqual([['1'], ['2']]);
    confirm.forEach((one) => one());
    await Promise.all(sent);
  });

  test('a batch is published when it is full, by count or by bytes', async () => {
    const { batches, published, confirm } = start();
    const sent = Array.from({ length: MAX_BATCH_MESSAGES + 1 }, (_, n) => batches.send(result(n)));
    expect(published.map((batch) => batch.length)).toEqual([1, MAX_BATCH_MESSAGES]);
    sent.push(batches.send(result(100)), batches.send(result(101, MAX_BATCH_BYTES)), batches.send(result(102)));
    expect(published.slice(2)).toEqual([['100'], ['101']]);
    confirm.forEach((one) => one());
    await new Promise((resolve) => setImmediate(resolve));
    confirm.forEach((one) => one());
    await Promise.all(sent);
  });

  test('a publish that fails fails each of its results, and no other', async () => {
    const { batches, confirm } = start();
    const outcomes = Promise.allSettled([1, 2, 3].map((n) => batches.send(result(n))));
    confirm[0]?.();
    await new Promise((resolve) => setImmediate(resolve));
    confirm[1]?.(new Error('refused'));
    expect((await outcomes).map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'rejected']);
  });
});

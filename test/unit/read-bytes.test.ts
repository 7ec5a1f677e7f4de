import type { IncomingMessage } from 'node:http';
import { PassThrough } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';

import { readBytes, LARGE_BYTES } from '../../api/middleware/read-bytes';

/** How slowly a body may arrive. */

const SILENCE_MS = 400;

function open(headers: Record<string, string> = {}, isCrowded = false) {
  const stream = new PassThrough({ highWaterMark: 4 * LARGE_BYTES });
  let silences = 0;
  let onLarge = async (): Promise<void> => undefined;
  const body = readBytes(
    Object.assign(stream, { headers: { 'transfer-encoding': 'chunked', ...headers } }) as never as IncomingMessage,
    {
      limitBytes: 10 * LARGE_BYTES,
      windowMs: SILENCE_MS / 6,
      isHurried: () => isCrowded,
      onLarge: () => onLarge(),
      onSlow: () => void silences++,
    },
  );
  body.catch(() => undefined);
  return { stream, body, silences: () => silences, holdBack: (hold: () => Promise<void>) => (onLarge = hold) };
}

test.each([
  ['not at all', [], {}],
  ['in part', [Buffer.from('{')], {}],
  ['in part, compressed', [gzipSync(Buffer.alloc(100_000, 'x')).subarray(0, 50)], { 'content-encoding': 'gzip' }],
])('a body that arrives %s is given up', async (_how, chunks, headers) => {
  const { stream, body, silences } = open(headers);
  for (const chunk of chunks) stream.write(chunk);
  await expect(body).rejects.toMatchObject({ code: 'REQUEST_TIMEOUT', httpStatus: 408 });
  expect(silences()).toBe(1);
  stream.destroy(); // the client leaves
  await delay(10); // a rejection that nobody handles would fail the test
});

test('while others wait, a body that pauses or drips is refused with the time to repeat it', async () => {
  const silent = open({}, true);
  const dripping = open({}, true);
  const drip = setInterval(() => dripping.stream.write('1'), SILENCE_MS / 12);
  for (const { body } of [silent, dripping]) {
    await expect(body).rejects.toMatchObject({ code: 'UNAVAILABLE', retryAfterS: 5 });
  }
  clearInterval(drip);
  for (const { stream, silences } of [silent, dripping]) {
    expect(silences()).toBe(1);
    stream.destroy();
  }
});

test('while others wait, a body that arrives at a good pace is read to its end', async () => {
  const { stream, body, silences } = open({ 'transfer-encoding': undefined as never, 'content-length': '40' }, true);
  for (let part = 0; part < 8; part++) {
    stream.write('12345');
    await delay(SILENCE_MS / 12);
  }
  stream.end();
  expect((await body)?.length).toBe(40);
  expect(silences()).toBe(0);
});

test('while others wait, a pause of the whole process is not the fault of the client', async () => {
  const { stream, body } = open({}, true);
  stream.write('1');
  await delay(1);
  for (const start = Date.now(); Date.now() - start < SILENCE_MS / 2;);
  setImmediate(() => stream.end('2'));
  expect((await body)?.toString()).toBe('12');
});

test('a body that arrives slowly is read to its end', async () => {
  const { stream, body, silences } = open();
  for (let part = 0; part < 6; part++) {
    stream.write('12');
    await delay(SILENCE_MS / 4);
  }
  stream.end();
  expect((await body)?.toString()).toBe('12'.repeat(6));
  expect(silences()).toBe(0);
});

test('the time in which the service itself does not read does not count', async () => {
  const { stream, body, holdBack } = open();
  let isHeld = false;
  holdBack(async () => {
    isHeld = true;
    await delay(2 * SILENCE_MS);
  });
  stream.write(Buffer.alloc(LARGE_BYTES + 1, 'x'));
  setTimeout(() => stream.end('y'), 2.5 * SILENCE_MS);
  expect((await body)?.length).toBe(LARGE_BYTES + 2);
  expect(isHeld).toBe(true);
});

test('bytes that arrived while the whole process stood still are read', async () => {
  const { stream, body } = open();
  setTimeout(() => {
    for (const start = Date.now(); Date.now() - start < 2 * SILENCE_MS;);
    setImmediate(() => stream.end('late'));
  }, 10);
  expect((await body)?.toString()).toBe('late');
});

import type { IncomingMessage } from 'node:http';
import { PassThrough } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';

import { readBytes, LARGE_BYTES } from '../../api/middleware/read-bytes';

/** How long a body may pause. */

const SILENCE_MS = 400;

function open(headers: Record<string, string> = {}) {
  const stream = new PassThrough({ highWaterMark: 4 * LARGE_BYTES });
  let silences = 0;
  let onLarge = async (): Promise<void> => undefined;
  const body = readBytes(
    Object.assign(stream, { headers: { 'transfer-encoding': 'chunked', ...headers } }) as never as IncomingMessage,
    {
      limitBytes: 10 * LARGE_BYTES,
      maxSilenceMs: SILENCE_MS,
      onLarge: () => onLarge(),
      onSilent: () => void silences++,
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

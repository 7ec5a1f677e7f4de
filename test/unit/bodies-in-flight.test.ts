import { EventEmitter } from 'node:events';

import type { Request, Response } from 'express';

import { limitBodiesInFlight } from '../../api/middleware/limit-bodies-in-flight';
import { until } from '../helpers/until';

/** Large requests at the same time: how many bodies are read, who waits, and who is refused. */

const limiter = ({ maxWaitMs = 60_000, limitBytes = 100 } = {}) =>
  limitBodiesInFlight({ holderOf: (req) => req.socket.remoteAddress ?? '', limitBytes, maxWaitMs });

let holders = 0;
/** Each request has a holder of its own, unless the test names one. */
function send(
  limit: ReturnType<typeof limiter>,
  headers: Record<string, string>,
  {
    holder = `holder ${holders++}`,
    maxBodyBytes = 100,
    closed = false,
  }: { holder?: string; maxBodyBytes?: number; closed?: boolean } = {},
) {
  const [req, res] = [
    { headers, socket: Object.assign(new EventEmitter(), { remoteAddress: holder, destroyed: false }) },
    Object.assign(new EventEmitter(), { closed }),
  ];
  const outcome: { error?: unknown; isRead: boolean } = { isRead: false };
  void limit.limit(maxBodyBytes)(req as unknown as Request, res as unknown as Response, (error?: unknown) => {
    outcome.isRead = error === undefined;
    outcome.error = error;
  });
  const settle = (bytes: number): void => limit.settle(req as unknown as Request, bytes);
  return { outcome, settle, close: () => res.emit('close'), reset: () => req.socket.emit('close') };
}
const sized = (bytes: number) => ({ 'content-length': String(bytes) });

test('a body is read when those before it are answered, in the order of arrival', () => {
  const limit = limiter();
  const first = send(limit, sized(60));
  const large = send(limit, sized(90));
  const small = send(limit, sized(10));
  expect([first, large, small].map(({ outcome }) => outcome.isRead)).toEqual([true, false, false]);
  first.close();
  expect([large, small].map(({ outcome }) => outcome.isRead)).toEqual([true, true]);
  const last = send(limit, { 'transfer-encoding': 'chunked' });
  large.close();
  expect(last.outcome.isRead).toBe(false);
  small.close();
  expect(last.outcome.isRead).toBe(true);
});

test('a request without a body never waits, and one whose client leaves makes room for the next', () => {
  const limit = limiter();
  const first = send(limit, sized(100));
  const leaving = send(limit, sized(100));
  const next = send(limit, sized(100));
  expect(send(limit, {}).outcome.isRead).toBe(true);
  leaving.close();
  first.close();
  expect(leaving.outcome.isRead).toBe(false);
  expect(next.outcome.isRead).toBe(true);
  next.close();
});

test('a request whose client left before its turn to be read holds nothing', () => {
  const limit = limiter();
  for (let n = 0; n < 5; n++) expect(send(limit, sized(100), { closed: true }).outcome.isRead).toBe(false);
  expect(limit.isCrowded()).toBe(false);
  expect(send(limit, sized(100)).outcome.isRead).toBe(true);
});

test('bytes are given back once when the connection breaks, also while the response waits behind another one', () => {
  const limit = limiter();
  const first = send(limit, sized(60));
  const second = send(limit, sized(40));
  first.reset();
  first.close();
  const third = send(limit, sized(60));
  const fourth = send(limit, sized(1));
  expect([first, second, third, fourth].map(({ outcome }) => outcome.isRead)).toEqual([true, true, true, false]);
  fourth.close();
});

test('others are in the way only of a request that waits for their bytes, and not for the share of its own holder', () => {
  const limit = limiter();
  send(limit, sized(50), { holder: 'one' });
  const own = send(limit, sized(50), { holder: 'one' });
  expect([own.outcome.isRead, limit.isCrowded()]).toEqual([false, false]);
  send(limit, sized(50), { holder: 'two' });
  const waiting = send(limit, sized(1));
  expect([waiting.outcome.isRead, limit.isCrowded()]).toEqual([false, true]);
  waiting.close();
  expect(limit.isCrowded()).toBe(false);
  own.close();
});

test('a request that waited too long is refused with the time to repeat it, and takes no place', async () => {
  const limit = limiter({ maxWaitMs: 20 });
  const first = send(limit, sized(100));
  const refused = send(limit, sized(100));
  await until('the request is refused', () => refused.outcome.error);
  expect(refused.outcome.error).toMatchObject({ code: 'UNAVAILABLE', retryAfterS: 5 });
  first.close();
  expect(send(limit, sized(100)).outcome.isRead).toBe(true);
});

test('a request holds at most what its route allows', () => {
  const limit = limiter();
  const [small, other] = [1, 2].map(() => send(limit, { 'transfer-encoding': 'chunked' }, { maxBodyBytes: 10 }));
  const announced = send(limit, sized(1_000), { maxBodyBytes: 10 });
  const rest = send(limit, sized(70));
  expect([small, other, announced, rest].map((one) => one?.outcome.isRead)).toEqual([true, true, true, true]);
  const beyond = send(limit, sized(1));
  expect(beyond.outcome.isRead).toBe(false);
  beyond.close();
});

test('a compressed request holds what its body may become: a hundred times its length, and any small body 1 MB', () => {
  const limit = limiter({ limitBytes: 10_000_000 });
  const options = { maxBodyBytes: 64_000_000 };
  const zipped = (bytes: number) => ({ ...sized(bytes), 'content-encoding': 'gzip' });
  const bodies = [zipped(40_000), zipped(40_000), zipped(10), zipped(10)].map((headers) => send(limit, headers, options));
  expect(bodies.map(({ outcome }) => outcome.isRead)).toEqual([true, true, true, true]); // 4 + 4 + 1 + 1 MB
  const plain = send(limit, sized(1), options);
  expect(plain.outcome.isRead).toBe(false);
  bodies[2]?.close();
  expect(plain.outcome.isRead).toBe(true);
  const small = send(limit, { ...zipped(40_000) }, { maxBodyBytes: 10 });
  expect(small.outcome.isRead).toBe(true); // the route allows no more
});

test('once a body is read, its request holds the bytes that it has', () => {
  const limit = limiter();
  const zipped = send(limit, { ...sized(1), 'content-encoding': 'gzip' });
  const next = send(limit, sized(70));
  expect(next.outcome.isRead).toBe(false);
  zipped.settle(30);
  expect(next.outcome.isRead).toBe(true);
  const last = send(limit, sized(30));
  expect(last.outcome.isRead).toBe(false);
  zipped.close();
  expect(last.outcome.isRead).toBe(true);
  zipped.settle(30);
  expect(send(limit, sized(1)).outcome.isRead).toBe(false); // and holds nothing again after it closed
});

test('one holder gets at most half, in the order of arrival, and delays nobody else', () => {
  const limit = limiter();
  const alice = { holder: 'alice' };
  const first = send(limit, sized(30), alice);
  const second = send(limit, sized(30), alice);
  const small = send(limit, sized(1), alice);
  expect([first, second, small].map(({ outcome }) => outcome.isRead)).toEqual([true, false, false]);
  const other = send(limit, sized(70));
  expect(other.outcome.isRead).toBe(true);
  first.close();
  expect([second, small].map(({ outcome }) => outcome.isRead)).toEqual([true, false]);
  other.close();
  expect(small.outcome.isRead).toBe(true);
});

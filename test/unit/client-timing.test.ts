import { PassThrough } from 'node:stream';

import { endLater, SHORTEST_SUBMIT_MS } from '../../api/funcx-1.0/client-timing';

beforeEach(() => jest.useFakeTimers());
afterEach(() => jest.useRealTimers());

test('what is written is sent at once, and the connection ends a moment later, sooner than a submit is answered', () => {
  const connection = new PassThrough();
  endLater(connection);
  connection.write('close frame');
  connection.end();
  expect(String(connection.read())).toBe('close frame');
  jest.advanceTimersByTime(9);
  expect(connection.writableEnded).toBe(false);
  jest.advanceTimersByTime(1);
  expect(connection.writableEnded).toBe(true);
  expect(SHORTEST_SUBMIT_MS).toBe(20);
});

import { Lateness } from '../../workers/lateness';

test('a heartbeat that waited in its queue is late by as long as it waited, whatever the clock of its agent says', () => {
  const lateness = new Lateness();
  const skewMs = -3_600_000;
  expect(lateness.measure('a', 1_000 + skewMs, 1_005)).toBe(0);
  expect(lateness.measure('a', 2_000 + skewMs, 32_005)).toBe(30_000);
  expect(lateness.measure('a', 40_000 + skewMs, 40_005)).toBe(0);
});

test('agents are measured apart, and an agent that does not say when it sent is never late', () => {
  const lateness = new Lateness();
  lateness.measure('a', 0, 0);
  expect(lateness.measure('b', 0, 50_000)).toBe(0);
  expect(lateness.measure('a', undefined, 50_000)).toBe(0);
});

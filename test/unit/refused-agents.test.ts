import { createRefusedAgents } from '../../api/funcx-1.0/refused-agents';

test('a refusal counts as repeated at the pace of a running agent only, and is forgotten in the end', () => {
  let now = 0;
  const refused = createRefusedAgents(() => now);
  expect(refused.isRepeated('a')).toBe(false);
  now += 1_000; // somebody types the command again
  expect(refused.isRepeated('a')).toBe(false);
  now += 10_000;
  expect(refused.isRepeated('b')).toBe(false);
  expect(refused.isRepeated('a')).toBe(true);
  now += 300_000;
  expect(refused.isRepeated('a')).toBe(true);
  now += 500_000;
  expect(refused.isRepeated('a')).toBe(false);
});

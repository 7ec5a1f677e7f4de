import { requestKeyOf } from '../../activities/derived-id';

test('the actions of deep lines of two runs, and of two places of one run, have different keys of limited length', () => {
  const place = (index: number): string => `${'/Map:12'.repeat(40)}/7/${index}`;
  const keys = ['run-1', 'run-2'].flatMap((run) => [0, 1].map((index) => requestKeyOf(`flow/${run}`, place(index))));
  expect(new Set(keys).size).toBe(4);
  for (const key of keys) expect(key.length).toBeLessThanOrEqual(200);
  expect(requestKeyOf('flow/run-1', place(0))).toBe(keys[0]);
});

test('the key of a short line is readable', () => {
  expect(requestKeyOf('flow/run-1', 'main/3/0')).toBe('flow/run-1/main/3/0');
});

import { paced } from '../../platform/paced';

const GAP_MS = 50;

test('what is asked for in one moment is sent at once and then once more, and never sooner than the gap', async () => {
  const sentMs: number[] = [];
  const send = paced(GAP_MS, () => {
    sentMs.push(Date.now());
    return Promise.resolve();
  });
  await Promise.all(Array.from({ length: 100 }, () => send('a')));
  expect(sentMs).toHaveLength(2);
  expect((sentMs[1] ?? 0) - (sentMs[0] ?? 0)).toBeGreaterThanOrEqual(GAP_MS - 1);
});

test('a wish that comes while a sending is under way gets one of its own', async () => {
  let begun = 0;
  let finishFirst = (): void => undefined;
  const send = paced(GAP_MS, () => {
    if (++begun > 1) return Promise.resolve();
    return new Promise<void>((resolve) => (finishFirst = resolve));
  });
  const first = send('a');
  const second = send('a');
  await second;
  expect(begun).toBe(2);
  finishFirst();
  await first;
});

test('keys do not wait for each other, and a failure reaches those who asked, and only them', async () => {
  const sent: string[] = [];
  const send = paced(GAP_MS, (key) => {
    sent.push(key);
    return key === 'bad' ? Promise.reject(new Error('no')) : Promise.resolve();
  });
  const bad = [send('bad'), send('bad')].map((promise) => expect(promise).rejects.toThrow('no'));
  await send('good');
  expect(sent).toEqual(['bad', 'good']);
  await Promise.all(bad);
  expect(sent).toEqual(['bad', 'good', 'bad']);
});

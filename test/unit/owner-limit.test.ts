import { createOwnerLimit } from '../../accepting/owner-limit';

test('several replicas together do not exceed the limit of open tasks', async () => {
  let open = 0;
  const replicas = Array.from({ length: 4 }, () => createOwnerLimit(1_000, async () => open));
  let refused = 0;
  for (let round = 0; round < 400; round++) {
    for (const replica of replicas) {
      try {
        await replica.check('owner', 7);
        open += 7;
        replica.add('owner', 7);
      } catch {
        refused++;
      }
    }
  }
  expect(open).toBeLessThanOrEqual(1_000);
  expect(open).toBeGreaterThan(980);
  expect(refused).toBeGreaterThan(0);
});

test('far from the limit, the count is read rarely', async () => {
  let reads = 0;
  const limit = createOwnerLimit(1_000_000, async () => (reads++, 0));
  for (let n = 0; n < 1_000; n++) {
    await limit.check('owner', 1);
    limit.add('owner', 1);
  }
  expect(reads).toBe(1);
});

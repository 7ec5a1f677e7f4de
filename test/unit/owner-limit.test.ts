import { createOwnerLimit } from '../../accepting/owner-limit';

test('several replicas together do not exceed the limit of open tasks', async () => {
  let open = 0;
  const replicas = Array.from({ length: 4 }, () => createOwnerLimit(1_000, async () => open));
  let refused = 0;
  for (let round = 0; round < 400; round++) {
    for (const replica of replicas) {
      try {
        const release = await replica.reserve('owner', 7);
        open += 7;
        replica.add('owner', 7);
        release();
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
    const release = await limit.reserve('owner', 1);
    limit.add('owner', 1);
    release();
  }
  expect(reads).toBe(1);
});

test('what is on its way into the store counts, and what was given up does not', async () => {
  let open = 0;
  const limit = createOwnerLimit(10, async () => open);
  const release = await limit.reserve('owner', 10);
  let isRefused: boolean | undefined;
  const another = limit.reserve('owner', 1).then(
    () => (isRefused = false),
    () => (isRefused = true),
  );
  await new Promise((resolve) => setImmediate(resolve));
  expect(isRefused).toBeUndefined(); // it waits for the exact count
  open = 10;
  release();
  await another;
  expect(isRefused).toBe(true);
  open = 0;
  (await limit.reserve('owner', 10))();
  await expect(limit.reserve('owner', 10)).resolves.toBeDefined();
});

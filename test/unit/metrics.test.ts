import { register } from 'prom-client';

import { partitionDaysAhead } from '../../platform/metrics';

test('a process that never creates partitions does not report how many days are ready', async () => {
  const values = async () => (await partitionDaysAhead.get()).values.map(({ value }) => value);
  expect(await values()).toEqual([]);
  expect(await register.metrics()).not.toMatch(/^funcx_partition_days_ahead /m);
  partitionDaysAhead.set(0);
  expect(await values()).toEqual([0]);
  expect(await register.metrics()).toMatch(/^funcx_partition_days_ahead 0$/m);
});

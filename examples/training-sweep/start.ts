import { Client, Connection } from '@temporalio/client';

import { FuncXPlugin } from '@funcx-temporal/sdk/temporal';

import type { sweep } from './workflows';

/** `node start.js ENDPOINT [RATE...]` prints the best trial. */
async function main(): Promise<void> {
  const [endpoint = 'local', ...rates] = process.argv.slice(2);
  const connection = await Connection.connect({ address: process.env.TEMPORAL_ADDRESS ?? 'localhost:7233' });
  const client = new Client({ connection, plugins: [new FuncXPlugin()] });
  const found = await client.workflow.execute<typeof sweep>('sweep', {
    workflowId: `sweep-${Date.now()}`,
    taskQueue: 'training-sweep',
    args: [endpoint, rates.length > 0 ? rates.map(Number) : [0.001, 0.01, 0.1, 0.5]],
    staticSummary: `training sweep on ${endpoint}`,
  });
  console.log(`best rate ${found.best.rate}, weight ${found.best.weight}; ${found.diverged} of ${found.tried} diverged`);
  await connection.close();
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});

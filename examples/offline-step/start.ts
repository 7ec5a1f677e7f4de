import { Client, Connection } from '@temporalio/client';

import { FuncXPlugin } from '@funcx-temporal/sdk/temporal';

import type { acquireThenAnalyse } from './workflows';

/** `node start.js INSTRUMENT LAPTOP` prints the workflow ID of the pipeline, and its result when the laptop is back. */
async function main(): Promise<void> {
  const [instrument = 'local', laptop = instrument] = process.argv.slice(2);
  const connection = await Connection.connect({ address: process.env.TEMPORAL_ADDRESS ?? 'localhost:7233' });
  const client = new Client({ connection, plugins: [new FuncXPlugin()] });
  const handle = await client.workflow.start<typeof acquireThenAnalyse>('acquireThenAnalyse', {
    workflowId: `offline-step-${Date.now()}`,
    taskQueue: 'offline-step',
    args: [5, instrument, laptop],
    staticSummary: `acquire on ${instrument}, analyse on ${laptop}`,
  });
  console.log(handle.workflowId);
  console.log(await handle.result());
  await connection.close();
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});

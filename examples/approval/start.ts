import { Client, Connection } from '@temporalio/client';

import { FuncXPlugin } from '@funcx-temporal/sdk/temporal';

import type { publishAfterApproval } from './workflows';

/** `node start.js CLUSTER LAPTOP` starts the pipeline and prints its workflow ID, for `decide.js` to approve or reject. */
async function main(): Promise<void> {
  const [cluster = 'local', laptop = cluster] = process.argv.slice(2);
  const connection = await Connection.connect({ address: process.env.TEMPORAL_ADDRESS ?? 'localhost:7233' });
  const client = new Client({ connection, plugins: [new FuncXPlugin()] });
  const { workflowId } = await client.workflow.start<typeof publishAfterApproval>('publishAfterApproval', {
    workflowId: `approval-${Date.now()}`,
    taskQueue: 'approval',
    args: [[1, 2, 6], cluster, laptop],
    staticSummary: 'publish a summary after approval',
  });
  console.log(workflowId);
  await connection.close();
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});

import { NativeConnection, Worker } from '@temporalio/worker';

import { FuncXPlugin } from '@funcx-temporal/sdk/temporal';

import * as functions from './functions';

async function main(): Promise<void> {
  const connection = await NativeConnection.connect({ address: process.env.TEMPORAL_ADDRESS ?? 'localhost:7233' });
  const worker = await Worker.create({
    connection,
    taskQueue: 'approval',
    workflowsPath: require.resolve('./workflows'),
    plugins: [new FuncXPlugin({ functions })],
  });
  await worker.run();
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});

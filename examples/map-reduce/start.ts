import { Client, Connection } from '@temporalio/client';

import { FuncXPlugin } from '@funcx-temporal/sdk/temporal';

import type { countWordsEverywhere } from './workflows';

/** `node start.js ENDPOINT=FOLDER...` prints the most frequent words. */
async function main(): Promise<void> {
  const sites = process.argv.slice(2).map((argument) => {
    const [endpoint = '', folder = ''] = argument.split('=');
    return { endpoint, folder };
  });
  const connection = await Connection.connect({ address: process.env.TEMPORAL_ADDRESS ?? 'localhost:7233' });
  const client = new Client({ connection, plugins: [new FuncXPlugin()] });
  const words = await client.workflow.execute<typeof countWordsEverywhere>('countWordsEverywhere', {
    workflowId: `word-count-${Date.now()}`,
    taskQueue: 'word-count',
    args: [sites],
    staticSummary: 'most frequent words of two sites',
  });
  for (const [word, count] of words) console.log(`${count} ${word}`);
  await connection.close();
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});

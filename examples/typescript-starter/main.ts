import { Client, Executor, python, TaskError } from '@funcx-temporal/sdk';

/** Runs on the endpoint, so its imports must be installed there. */
const mean = python<number>(`
import statistics

def mean(numbers):
    if not numbers:
        raise ValueError("no numbers")
    return statistics.fmean(numbers)
`);

async function main(): Promise<void> {
  // Address, id and secret come from FUNCX_API_URL, FUNCX_CLIENT_ID and FUNCX_CLIENT_SECRET.
  const client = new Client();
  const wanted = process.argv[2] ?? 'local';
  const endpoint = (await client.endpoints()).find(({ name }) => name === wanted);
  if (endpoint === undefined) throw new Error(`There is no endpoint ${wanted}; "funcx endpoint list" shows yours.`);
  const executor = new Executor({ client, endpointId: endpoint.uuid });

  const numbers = [1, 2, 3, 4];
  console.log(`the mean of ${numbers.join(', ')} is ${await executor.submit(mean, numbers)}`);

  const squares = await Promise.all(executor.map((n: number) => n * n, [1, 2, 3]));
  console.log(`squares: ${squares.join(' ')}`);

  try {
    await executor.submit(mean, []);
  } catch (error) {
    if (!(error instanceof TaskError)) throw error;
    console.log(`python said: ${error.message.trim().split('\n').at(-1)}`);
  }

  await executor.close(); // waits for every answer
  client.close();
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});

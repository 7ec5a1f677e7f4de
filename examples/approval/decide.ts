import { Client, Connection } from '@temporalio/client';

/** `node decide.js WORKFLOW_ID NAME yes|no` decides, then prints the result of the pipeline. */
async function main(): Promise<void> {
  const [workflowId = '', by = '', answer = 'no'] = process.argv.slice(2);
  const connection = await Connection.connect({ address: process.env.TEMPORAL_ADDRESS ?? 'localhost:7233' });
  const handle = new Client({ connection }).workflow.getHandle(workflowId);
  console.log(await handle.executeUpdate<string, [object]>('decide', { args: [{ by, approved: answer === 'yes' }] }));
  console.log(await handle.result());
  await connection.close();
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});

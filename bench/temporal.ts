import { Client, Connection } from '@temporalio/client';
import { DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';

const TASK_QUEUE = 'funcx-bench';

/** A worker and a client, as any user of Temporal would create them, on the server of the measured system. */
export interface PlainTemporal {
  /** A workflow that does nothing, from the start to its result. */
  runEmpty(): Promise<void>;
  /** A workflow that runs one activity, which does nothing. */
  runActivity(): Promise<void>;
  close(): Promise<void>;
}

export async function startPlainTemporal(address: string): Promise<PlainTemporal> {
  Runtime.install({ logger: new DefaultLogger('ERROR') });
  const native = await NativeConnection.connect({ address });
  const worker = await Worker.create({
    connection: native,
    taskQueue: TASK_QUEUE,
    workflowsPath: require.resolve('./workflows'),
    activities: { nothing: async () => undefined },
  });
  const running = worker.run();
  const connection = await Connection.connect({ address });
  const client = new Client({ connection });
  const prefix = `bench/${Date.now()}`;
  let count = 0;
  const run = (type: string) => async (): Promise<void> => {
    await client.workflow.execute(type, { taskQueue: TASK_QUEUE, workflowId: `${prefix}/${count++}` });
  };
  return {
    runEmpty: run('empty'),
    runActivity: run('oneActivity'),
    async close() {
      worker.shutdown();
      await running;
      await connection.close();
      await native.close();
    },
  };
}

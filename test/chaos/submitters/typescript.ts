import { createInterface } from 'node:readline';

import { Executor, python, type Transport } from '../../../sdk/index';
import { chaosInJavascript, PYTHON_SOURCE, type Call } from '../calls';
import { writeEvent } from '../submitter-log';

/**
 * A submitter with our TypeScript client. Reads calls from standard input, a JSON list a line; at the end of the input it
 * waits for every answer. A call that the service refused for too long is submitted again.
 */

const [log = '', endpointId = '', taskGroupId = ''] = process.argv.slice(2);
const transport = process.env.CHAOS_TRANSPORT || 'auto';
const AGAIN_MS = 1_000;

const executor = new Executor({ endpointId, taskGroupId, transport: transport as Transport, batchSize: 16 });
const inPython = python<string>(PYTHON_SOURCE);
const open = new Set<Promise<void>>();

async function run(call: Call): Promise<void> {
  const { key, kind } = call;
  for (;;) {
    const future = kind.startsWith('js') ? executor.submit(chaosInJavascript, key, kind) : executor.submit(inPython, key, kind);
    try {
      writeEvent(log, { event: 'accepted', key, task: await future.taskId });
    } catch (error) {
      writeEvent(log, { event: 'refused', key, error: String(error) });
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      continue;
    }
    await future.then(
      (value) => writeEvent(log, { event: 'settled', key, value }),
      (error: unknown) => writeEvent(log, { event: 'settled', key, error: String(error) }),
    );
    return;
  }
}

async function main(): Promise<void> {
  for await (const line of createInterface(process.stdin)) {
    for (const call of JSON.parse(line) as Call[]) {
      const running = run(call).finally(() => open.delete(running));
      open.add(running);
    }
  }
  await Promise.all(open);
  await executor.close();
}

main().catch((error: unknown) => {
  process.stderr.write(`${String(error)}\n`);
  process.exitCode = 1;
});

import path from 'node:path';

import { BUFFER, unpackBuffers } from '../../contracts/packing';

import { failure, type Call, type Outcome, type Runner } from './runner';
import { WorkerProcess, type WorkerProcessOptions } from './worker-process';

/** Runs JavaScript functions in a persistent child Node process; arguments and results are JSON. */
export function createJavaScriptRunner(shared: Omit<WorkerProcessOptions, 'title' | 'command' | 'args'>): Runner {
  const worker = new WorkerProcess({
    ...shared,
    title: 'JavaScript worker',
    command: process.execPath,
    args: [path.join(__dirname, 'javascript-worker.cjs')],
  });
  return {
    async run(call: Call): Promise<Outcome> {
      let body: string;
      try {
        body = javaScriptBody(call.buffer);
      } catch (error) {
        return failure('InvalidTask', `Task ${call.taskId} can not be run: ${String(error)}`);
      }
      return worker.run(call, body);
    },
    warm: () => worker.warm(),
    stop: () => worker.stop(),
    close: (graceMs) => worker.close(graceMs),
  };
}

function javaScriptBody(buffer: string): string {
  const [code, args, kwargs] = unpackBuffers(buffer);
  if (code?.identifier !== BUFFER.javascriptSource) throw new SyntaxError('the first buffer is not JavaScript source');
  if (args?.identifier !== BUFFER.json || kwargs?.identifier !== BUFFER.json) {
    throw new SyntaxError('JavaScript functions take JSON arguments');
  }
  return JSON.stringify([code.body, args.body, kwargs.body]);
}

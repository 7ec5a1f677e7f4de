import path from 'node:path';

import { parseJsonText } from '../../contracts/json-text';
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
    explainExit: heapSentence,
  });
  return {
    async run(call: Call): Promise<Outcome> {
      let body: string;
      try {
        body = javaScriptBody(call.buffer);
      } catch (error) {
        return failure('InvalidTask', `Task ${call.taskId} cannot be run: ${String(error)}`);
      }
      return worker.run(call, body);
    },
    warm: () => worker.warm(),
    whyNotReady: () => worker.whyNotReady(),
    stop: () => worker.stop(),
    close: (graceMs) => worker.close(graceMs),
  };
}

/** V8 aborts when the heap is full. */
function heapSentence(code: number | null, signal: NodeJS.Signals | null): string | undefined {
  if (signal !== 'SIGABRT' && code !== 134) return undefined;
  return 'OutOfMemory: the function used more memory than its JavaScript worker may have, or aborted the process.\n';
}

function javaScriptBody(buffer: string): string {
  const [code, args, kwargs] = unpackBuffers(buffer);
  if (code?.identifier !== BUFFER.javascriptSource) throw new SyntaxError('the first buffer is not JavaScript source');
  if (args?.identifier !== BUFFER.json || kwargs?.identifier !== BUFFER.json) {
    throw new SyntaxError('JavaScript functions take JSON arguments');
  }
  // The worker parses them, and would round what a JavaScript number cannot hold.
  parseJsonText(args.body);
  parseJsonText(kwargs.body);
  return JSON.stringify([code.body, args.body, kwargs.body]);
}

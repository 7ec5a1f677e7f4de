import path from 'node:path';

import { parseJsonText } from '../../contracts/json-text';
import { BUFFER, unpackBuffers } from '../../contracts/packing';

import type { SharedPoolOptions } from './python';
import { WorkerPool } from './worker-pool';

const MEBIBYTE = 2 ** 20;

/** Creates a pool that runs JavaScript functions in persistent Node processes. Arguments and results are JSON. */
export function createJavaScriptPool(shared: SharedPoolOptions): WorkerPool {
  const { limits, controlGroups } = shared.confinement;
  const memoryBytes = controlGroups === undefined ? limits?.memoryBytes : undefined;
  return new WorkerPool({
    ...shared,
    // V8 reserves far more addresses than it uses: without control groups, the heap is limited instead of the addresses.
    confinement: {
      ...shared.confinement,
      limits: { ...limits, ...(memoryBytes === undefined ? {} : { memoryBytes: undefined }) },
    },
    title: 'JavaScript worker',
    command: process.execPath,
    args: [
      ...(memoryBytes === undefined ? [] : [`--max-old-space-size=${Math.ceil(memoryBytes / MEBIBYTE)}`]),
      path.join(__dirname, 'javascript-worker.cjs'),
    ],
    explainExit: heapSentence,
    bodyOf: javaScriptBody,
  });
}

/** Explains an abort of the process: V8 aborts when the heap is full. */
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
  // Refuses numbers that a JavaScript number cannot hold, which the worker would round.
  parseJsonText(args.body);
  parseJsonText(kwargs.body);
  return JSON.stringify([code.body, args.body, kwargs.body]);
}

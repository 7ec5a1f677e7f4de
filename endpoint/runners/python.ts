import path from 'node:path';

import { WorkerPool, type WorkerPoolOptions } from './worker-pool';

export type SharedPoolOptions = Omit<WorkerPoolOptions, 'title' | 'command' | 'args'>;

/** Creates a pool that runs Python functions in persistent processes of the agent's Python environment. */
export function createPythonPool(python: string, shared: SharedPoolOptions): WorkerPool {
  return new WorkerPool({
    ...shared,
    title: 'Python worker',
    command: python,
    args: [path.join(__dirname, 'python-worker.py')],
  });
}

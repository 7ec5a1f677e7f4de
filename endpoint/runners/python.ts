import path from 'node:path';

import { WorkerPool, type WorkerPoolOptions } from './worker-pool';

/** What the pools of an agent have in common. */
export type SharedPoolOptions = Omit<WorkerPoolOptions, 'title' | 'command' | 'args'>;

/** Runs Python functions in persistent processes of the agent's Python environment. */
export function createPythonPool(python: string, shared: SharedPoolOptions): WorkerPool {
  return new WorkerPool({
    ...shared,
    title: 'Python worker',
    command: python,
    args: [path.join(__dirname, 'python-worker.py')],
  });
}

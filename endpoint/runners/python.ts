import path from 'node:path';

import { WorkerProcess, type WorkerProcessOptions } from './worker-process';
import type { Runner } from './runner';

/** Runs Python functions in a persistent process of the agent's Python environment. */
export function createPythonRunner(python: string, shared: Omit<WorkerProcessOptions, 'title' | 'command' | 'args'>): Runner {
  return new WorkerProcess({
    ...shared,
    title: 'Python worker',
    command: python,
    args: [path.join(__dirname, 'python-worker.py')],
  });
}

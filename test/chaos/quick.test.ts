import { spawn } from 'node:child_process';
import { join } from 'node:path';

/** The short run of chaos, which is a part of `npm test`. A busy machine gets more time than the run needs. */

const LIMIT_MS = 480_000;

test(
  'while every part is killed under load, no task is lost, doubled or answered wrongly, and nothing is left over',
  async () => {
    const child = spawn(process.execPath, [join(__dirname, 'run.mjs'), '--quick', '--seed', '1'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
    const timer = setTimeout(() => child.kill(), LIMIT_MS - 60_000);
    const status = await new Promise((resolve) => child.once('close', resolve));
    clearTimeout(timer);
    if (status !== 0) throw new Error(`chaos ended with ${String(status)}:\n${output}`);
  },
  LIMIT_MS,
);

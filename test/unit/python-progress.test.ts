import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

import { findBasePython } from '../../local/processes/python';
import { ROOT } from '../helpers/readme';

/** What the bar of the Python package shows; test/long/python-package.test.ts installs the package with pip. */

function run(code: string): { stdout: string; stderr: string } {
  const env = { ...process.env, PYTHONPATH: join(ROOT, 'python'), PYTHONDONTWRITEBYTECODE: '1' };
  const { stdout, stderr } = spawnSync(findBasePython().path, ['-c', code], { encoding: 'utf8', env });
  return { stdout, stderr };
}

const USE = `
import io, sys
from concurrent.futures import Future, ThreadPoolExecutor
from funcx_temporal import progress, wait

class Terminal(io.StringIO):
    def isatty(self):
        return True

def half(n):
    if n == 3:
        raise ValueError("three")
    return n / 2

with ThreadPoolExecutor(1) as executor:
    shown = Terminal()
    ended = [future for future in progress([executor.submit(half, n) for n in range(10)], "half", shown)]
    last = shown.getvalue().split("\\r")[-1]
    print(len(ended), repr(last.rsplit(', ', 1)[0]))
    log = io.StringIO()
    values = [future.result() for future in wait([executor.submit(half, n) for n in (8, 6, 4)], stream=log)]
    print(values, log.getvalue().splitlines()[-1].split(",")[0])
cancelled = Future()
cancelled.cancel()
cancelled.set_running_or_notify_cancel()
log = io.StringIO()
wait([cancelled], stream=log)
print(log.getvalue().splitlines()[-1].split(", ")[1:3])
print(list(progress([], stream=io.StringIO())))
`;

test('a bar over the futures of any executor counts what is done and what failed, and keeps the order of wait', () => {
  const { stdout, stderr } = run(USE);
  expect(stderr).toBe('');
  expect(stdout.split('\n')).toEqual([
    "10 'half [##############################] 10/10, 100 %, 1 failed'",
    '[4.0, 3.0, 2.0] [##############################] 3/3',
    "['100 %', '1 failed']",
    '[]',
    '',
  ]);
});

test('the module for pipelines comes with it, and needs no other package', () => {
  const { stdout } = run('import funcx_temporal.pipeline as p; print(p.CALLS_QUEUE, p.named.__name__)');
  expect(stdout).toBe('funcx-calls named\n');
});

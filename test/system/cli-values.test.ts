import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { funcx, localEndpoint } from '../helpers/system';

/** What a person sees of values, and what of a file reaches the endpoint. */

const dir = mkdtempSync(join(tmpdir(), 'funcx-cli-values-'));
const file = (name: string, content: string | Buffer): string => {
  const path = join(dir, name);
  writeFileSync(path, content);
  return path;
};
const run = (path: string, ...more: string[]) => funcx(['run', path, '--endpoint', localEndpoint(), ...more]);

test('numbers pass from the command line to Python and back as they are written', () => {
  const echo = file('echo.py', 'def echo(*values, **named):\n    return [repr(values), [*values, *named.values()]]\n');
  const args = file('args.json', '\uFEFF[NaN, 3544790567247868102,\r\n 1.0, -Infinity]\r\n');
  expect(run(echo, '--args', `@${args}`, '--kwargs', '{"tiny": 1e-07}')).toMatchObject({
    status: 0,
    stdout: '["(nan, 3544790567247868102, 1.0, -inf)",[NaN,3544790567247868102,1.0,-Infinity,1e-07]]\n',
  });
  const { stdout } = run(echo, '--json', '--args', '[NaN, 9007199254740993]');
  const taskId = /^\{"task_id":"([^"]+)","value":\["\(nan, 9007199254740993\)",\[NaN,9007199254740993\]\]\}\n$/.exec(stdout)?.[1];
  expect(funcx(['task', taskId ?? '']).stdout).toContain('\n["(nan, 9007199254740993)",[NaN,9007199254740993]]\n');
  expect(funcx(['task', taskId ?? '', '--json']).stdout).toContain('"value": ["(nan, 9007199254740993)",[NaN,9007199254740993]]');
});

test('a value that is not JSON is shown by its repr with its type, and written to a file', () => {
  const odd = file(
    'odd.py',
    'import dataclasses, datetime\n\n\n@dataclasses.dataclass\nclass Point:\n    x: float\n\n\n' +
      'def odd(what):\n    return {"set": {1}, "time": datetime.datetime(2026, 1, 2), "bytes": b"\\0\\xff", "point": Point(1.0)}[what]\n',
  );
  const ofSet = run(`${odd}:odd`, '--args', '["set"]');
  expect(ofSet).toMatchObject({ status: 0, stdout: '{1}\n' });
  expect(ofSet.stderr).toContain('The value is of type set, shown by its repr; --output FILE writes it to a file.');
  expect(run(`${odd}:odd`, '--args', '["time"]').stdout).toBe('datetime.datetime(2026, 1, 2, 0, 0)\n');
  expect(run(`${odd}:odd`, '--args', '["point"]').stdout).toBe('Point(x=1.0)\n');
  const out = join(dir, 'out');
  expect(run(`${odd}:odd`, '--args', '["bytes"]', '--output', out)).toMatchObject({ status: 0, stdout: '' });
  expect(readFileSync(out)).toEqual(Buffer.from([0, 255]));
  const { stdout } = run(`${odd}:odd`, '--args', '["set"]', '--json');
  expect(JSON.parse(stdout)).toMatchObject({ type: 'set', repr: '{1}', value: { identifier: '00' } }); // the SDK's identifier of pickles
  const { task_id: taskId } = JSON.parse(stdout) as { task_id: string };
  expect(funcx(['task', taskId]).stdout).toContain('\n{1}\n');
  expect(funcx(['task', taskId, '--output', out])).toMatchObject({ status: 0 });
  expect(readFileSync(out).subarray(0, 2)).toEqual(Buffer.from([0x80, 0x04])); // pickle, protocol 4
});

test('the whole file is sent: guarded imports, constants and helpers, but not what is guarded by __main__', () => {
  const whole = file(
    'whole.py',
    `"""A module."""
from __future__ import annotations

try:
    import no_such_package
except ImportError:
    no_such_package = None
import math as m

LIMIT = 3


def helper(n: Unknown) -> int:
    return min(n, LIMIT)


if m.pi > 3:
    def limited(n):
        return [helper(n), no_such_package is None, m.floor(2.5)]


if __name__ == "__main__":
    raise SystemExit("must not run")
`,
  );
  expect(run(`${whole}:limited`, '--args', '[9]')).toMatchObject({ status: 0, stdout: '[3,true,2]\n' });
  expect(run(whole).stderr).toMatch(/as .*whole\.py:NAME; there are: helper, limited/);
});

test('a file is read in its declared encoding, with a byte order mark and any names; a NUL or wrong bytes are refused', () => {
  const bom = file('bom.py', '\uFEFFdef größe(n):\n    """Größe"""\n    return n\n');
  expect(run(`${bom}:größe`.normalize('NFD'), '--args', '[1]')).toMatchObject({ status: 0, stdout: '1\n' });
  const latin = file('latin.py', Buffer.from('# -*- coding: latin-1 -*-\r\ndef name():\r\n    return "größe"\r\n', 'latin1'));
  expect(run(latin)).toMatchObject({ status: 0, stdout: 'größe\n' });
  const nul = file('nul.py', 'def f():\n    """a\0b"""\n    return 1\n');
  expect(run(nul)).toMatchObject({ status: 1, stderr: expect.stringMatching(/nul\.py, line 2: there is a NUL character/) });
  const broken = file('broken.py', Buffer.from('def f():\n    return "größe"\n', 'latin1'));
  expect(run(broken)).toMatchObject({ status: 1, stderr: expect.stringMatching(/broken\.py.*utf-8/i) });
  const script = file('windows.sh', 'x=a\r\nprintf %s "$x-{0}"\r\n');
  expect(JSON.parse(run(script, '--args', '[1]').stdout)).toMatchObject({ stdout: 'a-1' });
  expect(funcx(['function', 'register', bom, '--description', 'größe', '--json'])).toMatchObject({ status: 0 });
});

test('what a function prints is printed by run, each stream to its own, and shown later by task and logs', () => {
  const talker = file(
    'talker.py',
    'import subprocess\nimport sys\n\n\ndef talker(n):\n    print("begin")\n    subprocess.run(["echo", "child"])\n' +
      '    sys.stderr.write("warning")\n    return 1 / n\n',
  );
  expect(run(talker, '--args', '[2]')).toMatchObject({ status: 0, stdout: 'begin\nchild\n0.5\n', stderr: 'warning\n' });
  const failed = run(talker, '--args', '[0]');
  expect(failed).toMatchObject({ status: 1, stdout: 'begin\nchild\n' });
  expect(failed.stderr).toMatch(/^warning\nTraceback[^]*ZeroDivisionError/);
  const { stdout } = run(talker, '--args', '[2]', '--json');
  expect(JSON.parse(stdout)).toMatchObject({ value: 0.5, stdout: 'begin\nchild\n', stderr: 'warning' });
  const { task_id: taskId } = JSON.parse(stdout) as { task_id: string };
  expect(funcx(['logs', taskId])).toMatchObject({ status: 0, stdout: 'begin\nchild\n', stderr: 'warning\n' });
  expect(funcx(['task', taskId]).stdout).toMatch(/\nprinted:\nbegin\nchild\n\nprinted to standard error:\nwarning\n\n0\.5\n$/);
  const script = file('talker.sh', 'echo out; exit {0}\n');
  expect(run(script, '--args', '[3]')).toMatchObject({ status: 1, stdout: 'out\n' });
});

import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import { packBuffer, packJsonArguments } from '../../contracts/packing';
import { createJavaScriptPool } from '../../endpoint/runners/javascript';
import { OwnerFolders } from '../../endpoint/runners/owner-folders';
import { ProcessGroups } from '../../endpoint/runners/process-groups';
import { createPythonPool } from '../../endpoint/runners/python';
import type { Outcome } from '../../endpoint/runners/runner';
import { ShellRunner } from '../../endpoint/runners/shell';
import { Slots, type SlotCall } from '../../endpoint/runners/slots';
import { agentPython } from '../helpers/agent-python';

jest.setTimeout(30_000);

const JSON_RESULT = ['globus_compute_sdk.serialize.JSONData'];

let python: string;
let dir: string;
let groups: ProcessGroups;
let slots: Slots;
let logFd: number;
let tasks = 0;

beforeAll(async () => {
  python = await agentPython();
}, 300_000);

beforeEach(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'funcx-runners-'));
  groups = new ProcessGroups();
  logFd = fs.openSync(path.join(dir, 'workers.log'), 'a');
  slots = startSlots(2);
});

afterEach(async () => {
  await slots.close(0);
  groups.close();
  fs.closeSync(logFd);
  fs.rmSync(dir, { recursive: true, force: true });
});

function startSlots(count: number, pythonCommand = python, env: NodeJS.ProcessEnv = {}): Slots {
  const confinement = { runDir: path.join(dir, 'tasks'), dir };
  const shared = {
    env: { ...process.env, ...env, FUNCX_RUN_DIR: path.join(dir, 'tasks'), FUNCX_SANDBOX: '0' },
    confinement,
    folders: new OwnerFolders({ confinement, log: { warn: () => undefined } }),
    slots: count,
    groups,
    hostname: 'testhost',
    logFd,
    logPath: path.join(dir, 'workers.log'),
    log: { warn: () => undefined },
  };
  const pythonPool = createPythonPool(pythonCommand, shared);
  const javaScriptPool = createJavaScriptPool(shared);
  return new Slots(count, () => ({
    python: pythonPool.runner(),
    javascript: javaScriptPool.runner(),
    shell: new ShellRunner(shared),
  }));
}

const source = (identifier: string, code: string, args: unknown[] = [], kwargs: Record<string, unknown> = {}): string =>
  packBuffer(identifier, code) + packJsonArguments(args, kwargs);

interface Started {
  taskId: string;
  started: Promise<void>;
  outcome: Promise<Outcome>;
}

function begin(buffer: string, extra: Partial<SlotCall> = {}): Started {
  const taskId = `00000000-0000-8000-8000-${String(++tasks).padStart(12, '0')}`;
  let onStart: () => void = () => undefined;
  const started = new Promise<void>((resolve) => (onStart = resolve));
  const outcome = new Promise<Outcome>((onOutcome) => {
    slots.add({
      taskId,
      owner: 'own',
      buffer,
      maxResultChars: 1_000_000,
      resultSerializers: JSON_RESULT,
      onStart,
      onOutcome,
      onWithdrawn: () => undefined,
      ...extra,
    });
  });
  return { taskId, started, outcome };
}

const run = (buffer: string, extra: Partial<SlotCall> = {}): Promise<Outcome> => begin(buffer, extra).outcome;

async function until(condition: () => boolean, deadlineMs = 5_000): Promise<void> {
  const end = Date.now() + deadlineMs;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`not within ${deadlineMs} ms: ${condition.toString()}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const isRunning = (pid: number): boolean => {
  try {
    // a zombie that its new parent has not reaped yet runs no more
    return !/^\d+ \(.*\) Z/.test(fs.readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
};

describe('Python functions', () => {
  test('source with JSON arguments returns JSON, beyond ASCII too', async () => {
    const outcome = await run(source('st', 'f:def f(a, *, b):\n    print("hi")\n    return [a, b]\n', ['ü😀'], { b: 2 }));
    expect(outcome.error).toBeUndefined();
    expect(JSON.parse(outcome.data.slice(3))).toEqual(['ü😀', 2]);
    expect(outcome.details).toMatchObject({ globus_compute_sdk_version: '4.19.0', dill_version: '0.3.9' });
  });

  test('a function that the SDK serialized is decoded, and its result too', async () => {
    const script = `
from globus_compute_sdk.serialize import ComputeSerializer
s = ComputeSerializer()
print(s.pack_buffers([s.serialize(lambda x, y: {x, y}), s.serialize((1,)), s.serialize({"y": 2})]), end="")`;
    const buffer = execFileSync(python, ['-c', script], { encoding: 'utf8' });
    const outcome = await run(buffer, { resultSerializers: undefined });
    const decode =
      'import sys; from globus_compute_sdk.serialize import ComputeSerializer as C; print(C().deserialize(sys.stdin.read()))';
    expect(execFileSync(python, ['-c', decode], { input: outcome.data, encoding: 'utf8' })).toBe('{1, 2}\n');
  });

  test('the ShellFunction of the SDK runs', async () => {
    const script = `
from globus_compute_sdk import ShellFunction
from globus_compute_sdk.serialize import ComputeSerializer
s = ComputeSerializer()
print(s.pack_buffers([s.serialize(ShellFunction("echo {x}", return_dict=True)), s.serialize(()), s.serialize({"x": 3})]), end="")`;
    const outcome = await run(execFileSync(python, ['-c', script], { encoding: 'utf8' }));
    expect(JSON.parse(outcome.data.slice(3))).toMatchObject({ returncode: 0, stdout: '3\n', cmd: 'echo 3' });
  });

  test('globals of a function are new for every call', async () => {
    const code = source('st', 'f:seen = []\ndef f():\n    seen.append(1)\n    return len(seen)\n');
    const values = [await run(code), await run(code), await run(code)].map(({ data }) => data);
    expect(values).toEqual(['11\n1', '11\n1', '11\n1']);
  });

  test('an exception is an answer with the traceback of the user code', async () => {
    const outcome = await run(source('st', 'f:def g(x):\n    return 1 / x\ndef f(x):\n    return g(x)\n', [0]));
    expect(outcome.error?.code).toBe('RemoteExecutionError');
    expect(outcome.data).toMatch(/^Traceback[\s\S]*return 1 \/ x[\s\S]*ZeroDivisionError: division by zero\n$/);
    expect(outcome.data).not.toContain('python-worker.py');
  });

  test.each(['SystemExit(3)', 'KeyboardInterrupt()', 'GeneratorExit()'])(
    '%s of a function does not end its worker',
    async (what) => {
      slots = startSlots(1);
      const pid = await run(source('st', 'f:def f():\n    import os\n    return os.getpid()\n'));
      const outcome = await run(source('st', `f:def f():\n    raise ${what}\n`));
      expect(outcome.error?.code).toBe('RemoteExecutionError');
      expect((await run(source('st', 'f:def f():\n    import os\n    return os.getpid()\n'))).data).toBe(pid.data);
    },
  );

  test('an exception comes with its class and its bases, also one of a class that the function defines', async () => {
    const code = `f:def f():
    class Busy(ConnectionError):
        pass
    error = Busy("later: maybe\\nHINT")
    error.add_note("NOTE")
    raise error
`;
    const { error } = await run(source('st', code));
    expect(error?.classes?.map((name) => name.split('.').at(-1))).toEqual([
      'Busy',
      'ConnectionError',
      'OSError',
      'Exception',
      'BaseException',
    ]);
  });

  test('an async function is awaited, and generators are refused in one sentence', async () => {
    const awaited = 'f:async def f():\n    import asyncio\n    await asyncio.sleep(0)\n    return 7\n';
    expect((await run(source('st', awaited))).data).toBe('11\n7');
    const refused = await run(source('st', 'f:async def f():\n    yield 1\n'));
    expect(refused.data).toContain('TypeError: The function returned an async generator, which cannot be sent as a result.');
    expect((await run(source('st', 'f:def f():\n    yield 1\n'))).data).toContain('returned a generator, which cannot');
  });

  test('numbers keep their type and value, and scalars of numpy are numbers', async () => {
    const echo = 'f:def f(*values):\n    return [[type(v).__name__, v] for v in values]\n';
    const args = '[1.0, 3544790567247868102, 1e2, NaN]';
    const outcome = await run(packBuffer('st', echo) + packBuffer('11', args) + packBuffer('11', '{}'));
    expect(outcome.data).toBe('11\n[["float", 1.0], ["int", 3544790567247868102], ["float", 100.0], ["float", NaN]]');
    const fake = `f:def f():
    import sys, types
    numpy = types.ModuleType("numpy")
    class generic:
        def item(self):
            return 3.5
    numpy.generic = generic
    sys.modules["numpy"] = numpy
    return {"mean": generic()}
`;
    const serializers = [...JSON_RESULT, 'globus_compute_sdk.serialize.DillDataBase64'];
    expect((await run(source('st', fake), { resultSerializers: serializers })).data).toBe('11\n{"mean": 3.5}');
  });

  test('a result that is not JSON comes with its type and its repr, for a submitter who asked for JSON', async () => {
    const serializers = [...JSON_RESULT, 'globus_compute_sdk.serialize.DillDataBase64'];
    const looks = async (code: string): Promise<unknown> =>
      (await run(source('st', `f:def f():\n${code}`), { resultSerializers: serializers, maxResultChars: 4_000_000 })).details
        ?.value;
    expect(await looks('    return {1}\n')).toEqual({ type: 'set', repr: '{1}' });
    expect(await looks('    import datetime\n    return datetime.date(2026, 1, 2)\n')).toEqual({
      type: 'datetime.date',
      repr: 'datetime.date(2026, 1, 2)',
    });
    expect(await looks('    return [1, 2]\n')).toBeUndefined();
    const failing = '    from fractions import Fraction\n    Fraction.__repr__ = None\n    return Fraction(1, 2)\n';
    expect(await looks(failing)).toEqual({ type: 'fractions.Fraction' });
    expect(await looks('    return {b"x" * 2_000_000}\n')).toEqual({ type: 'set' });
    const long = (await looks('    return {b"x" * 10_000}\n')) as { repr: string };
    expect([long.repr.length, long.repr.slice(-3)]).toEqual([4_003, '...']);
    const unasked = await run(source('st', 'f:def f():\n    return {1}\n'), { resultSerializers: undefined });
    expect(unasked.details?.value).toBeUndefined();
  });

  test('a byte order mark, and a name in another Unicode form than in the source, do no harm', async () => {
    expect((await run(source('st', 'f:\ufeffdef f():\n    return 1\n'))).data).toBe('11\n1');
    const name = 'größe';
    expect((await run(source('st', `${name.normalize('NFD')}:def ${name.normalize('NFC')}():\n    return 2\n`))).data).toBe(
      '11\n2',
    );
  });

  test('a function sees the default handling of SIGINT, and so do its children', async () => {
    const code = `f:def f():
    import os, signal, subprocess
    mask = subprocess.run(["grep", "SigIgn", "/proc/self/status"], capture_output=True, text=True).stdout.split()[1]
    ignored = int(mask, 16) >> (signal.SIGINT - 1) & 1
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        return [ignored, "interrupted"]
`;
    expect((await run(source('st', code))).data).toBe('11\n[0, "interrupted"]');
  });

  test('what a function changes in its process is restored before the next one', async () => {
    slots = startSlots(1);
    const look = `f:def f():
    import builtins, json, os, signal, subprocess, sys
    print("still here")
    return [json.dumps([1]), print.__name__, os.environ.get("LEFT"), "PATH" in os.environ, "/left" in sys.path,
            str(signal.getsignal(signal.SIGCHLD)), subprocess.run(["true"]).returncode, oct(os.umask(0o22))]
`;
    const change = `f:def f():
    import builtins, json, os, shutil, signal, sys
    json.dumps = None
    builtins.print = None
    os.environ.clear()
    os.environ["LEFT"] = "1"
    sys.path.append("/left")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.alarm(1)
    os.umask(0o77)
    sys.stdout.close()
    os.close(1)
    shutil.rmtree(os.getcwd())
    return os.getpid()
`;
    const before = await run(source('st', look));
    expect(before.error).toBeUndefined();
    expect((await run(source('st', change))).data).toMatch(/^11\n\d+$/);
    const after = await run(source('st', look));
    expect(after.data).toBe(before.data);
    const output = { stdout: 'still here\n', stderr: '' };
    expect([before.details?.output, after.details?.output]).toEqual([output, output]);
  });

  test('what a function and its child processes print comes with its answer, in the order of each stream', async () => {
    const code = `f:def f(n):
    import os, subprocess, sys
    print("one", n)
    subprocess.run(["sh", "-c", "echo two; echo oops >&2"])
    os.write(1, b"three\\n")
    print("four", end="")
    sys.stderr.write("größe\\0")
    if n < 0:
        raise ValueError(n)
    return n
`;
    const output = { stdout: 'one 1\ntwo\nthree\nfour', stderr: 'oops\ngröße\uFFFD' };
    expect((await run(source('st', code, [1]))).details?.output).toEqual(output);
    const failed = await run(source('st', code, [-1]));
    expect(failed.details?.output).toEqual({ ...output, stdout: output.stdout.replace('1', '-1') });
    expect((await run(source('st', 'f:def f():\n    return 1\n'))).details).not.toHaveProperty('output');
  });

  test('the output of a call never comes with another one, not even that of a child that lives on', async () => {
    slots = startSlots(1);
    const leaver = `f:def f():
    import subprocess
    subprocess.Popen(["sh", "-c", "sleep 0.3; echo late; echo late >&2"])
    print("mine")
`;
    expect((await run(source('st', leaver))).details?.output).toEqual({ stdout: 'mine\n', stderr: '' });
    const slow = 'f:def f():\n    import time\n    time.sleep(0.6)\n    print("own")\n';
    expect((await run(source('st', slow))).details?.output).toEqual({ stdout: 'own\n', stderr: '' });
    const thread = 'f:def f():\n    import threading\n    threading.Timer(0.1, print, ["late"]).start()\n';
    expect((await run(source('st', thread))).details).not.toHaveProperty('output');
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect((await run(source('st', slow))).details?.output).toEqual({ stdout: 'own\n', stderr: '' });
    expect(fs.readFileSync(path.join(dir, 'workers.log'), 'utf8')).toContain('late');
  });

  test('the middle of a long output is cut out, and 100 MB of it take no memory', async () => {
    const code = `f:def f(lines):
    import resource, sys
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for n in range(lines):
        sys.stdout.write("x" * 1023 + "\\n")
    sys.stderr.write("the end")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
`;
    const outcome = await run(source('st', code, [100_000]));
    const { stdout, stderr } = outcome.details?.output as { stdout: string; stderr: string };
    expect(stdout).toMatch(/^x+\n[^]*\n\[\.\.\. 102334472 bytes \.\.\.\]\n[^]*x\n$/);
    expect([stdout.length < 70_000, stderr]).toEqual([true, 'the end']);
    expect(Number(outcome.data.slice(3))).toBeLessThan(20_000); // KB
  });

  test('the last words of a worker that dies, or is stopped, come with the answer', async () => {
    const dying = 'f:def f():\n    import os\n    print("last words", flush=True)\n    os.kill(os.getpid(), 9)\n';
    const lost = await run(source('st', dying));
    expect([lost.isLost, lost.details?.output]).toEqual([true, { stdout: 'last words\n', stderr: '' }]);
    const endless = 'f:def f():\n    import time\n    print("begun", flush=True)\n    time.sleep(600)\n';
    const stopped = await run(source('st', endless), { walltimeMs: 5_000 });
    expect(stopped).toMatchObject({ error: { code: 'WalltimeExceeded' }, details: { output: { stdout: 'begun\n' } } });
  });

  test('a worker that dies fails its call as WorkerLost and is replaced', async () => {
    const outcome = await run(source('st', 'f:def f():\n    import os\n    os._exit(7)\n'));
    expect(outcome).toMatchObject({ error: { code: 'WorkerLost' }, isLost: true });
    expect(outcome.data).toMatch(/^The Python worker on testhost exited with code 7 while it ran task 0/);
    expect((await run(source('st', 'f:def f():\n    return 1\n'))).data).toBe('11\n1');
  });

  test('a forked child that comes back does not answer for its parent', async () => {
    const code =
      'f:def f():\n    import os\n    pid = os.fork()\n    if pid == 0:\n        return "child"\n    os.waitpid(pid, 0)\n    return "parent"\n';
    expect((await run(source('st', code))).data).toBe('11\n"parent"');
    expect((await run(source('st', code))).data).toBe('11\n"parent"');
  });

  test('a result over the limit becomes a failure that names both sizes', async () => {
    const outcome = await run(source('st', 'f:def f():\n    return "x" * 200\n'), { maxResultChars: 100 });
    expect(outcome).toMatchObject({ data: 'MaxResultSizeExceeded(205, 100)', error: { code: 'MaxResultSizeExceeded' } });
  });

  test('a call over its walltime is stopped with its children', async () => {
    const code = `f:def f(path):
    import subprocess
    p = subprocess.Popen(["sleep", "600"])
    open(path, "w").write(str(p.pid))
    p.wait()
`;
    const file = path.join(dir, 'pid');
    const outcome = await run(source('st', code, [file]), { walltimeMs: 4_000 });
    expect(outcome.error?.code).toBe('WalltimeExceeded');
    await until(() => !isRunning(Number(fs.readFileSync(file, 'utf8'))));
  });

  test('a Python that cannot start fails its call with a sentence', async () => {
    slots = startSlots(1, '/nonexistent/python');
    const outcome = await run(source('st', 'f:def f():\n    pass\n'));
    expect(outcome.error?.code).toBe('EndpointFailed');
    expect(outcome.data).toContain('could not be started');
  });

  test('a Python that ends before it is ready is quoted', async () => {
    const broken = path.join(dir, 'python');
    fs.writeFileSync(broken, '#!/bin/sh\necho "ModuleNotFoundError: No module named dill" >&2\nexit 1\n', { mode: 0o755 });
    slots = startSlots(1, broken);
    const reason = await slots.whyNotReady('python');
    expect(reason).toMatch(
      /exited with code 1 before it was ready\. From .*workers\.log:\n {2}ModuleNotFoundError: No module named dill$/,
    );
    expect(await run(source('st', 'f:def f():\n    pass\n'))).toMatchObject({ cannotStart: reason });
    slots = startSlots(1);
    expect(await slots.whyNotReady('python')).toBeUndefined();
  });

  test('a function that removes the folder of the workers and ends its own does not break the next', async () => {
    slots = startSlots(1);
    const code = 'f:def f(path):\n    import os, shutil\n    shutil.rmtree(path)\n    os._exit(1)\n';
    expect((await run(source('st', code, [path.join(dir, 'tasks')]))).error?.code).toBe('WorkerLost');
    expect((await run(source('st', 'f:def f():\n    import os\n    return len(os.listdir("."))\n'))).data).toBe('11\n0');
  });
});

describe('JavaScript functions', () => {
  test.each([
    ['an arrow function', 'add:async (a, b, { c }) => a + b + c'],
    ['a function expression', 'add:function add(a, b, options) { return a + b + options.c; }'],
    ['declarations', 'add:const k = 1;\nfunction add(a, b, { c }) { return k * (a + b + c); }'],
  ])('%s is called with JSON arguments, keywords last', async (_kind, code) => {
    expect((await run(source('js', code, [1, 2], { c: 3 }))).data).toBe('11\n6');
  });

  test('undefined becomes null', async () => {
    expect((await run(source('js', 'f:() => undefined'))).data).toBe('11\nnull');
  });

  test('a thrown error is an answer with its stack', async () => {
    const outcome = await run(source('js', 'f:() => { throw new RangeError("too far"); }'));
    expect(outcome.error?.code).toBe('RemoteExecutionError');
    expect(outcome.data).toMatch(/^RangeError: too far\n {4}at /);
    expect(outcome.data).not.toContain('javascript-worker');
  });

  test.each([
    ['a rejection that nobody awaits', '() => { Promise.reject(new RangeError("lost")); return 1; }', 'RangeError: lost'],
    ['a throw in a timer', '() => new Promise(() => setTimeout(() => { throw new RangeError("late"); }, 5))', 'RangeError: late'],
    ['process.exit', '() => process.exit(4)', 'ProcessExit: The function called process.exit(4).'],
    ['process.exit within try', '() => { try { process.exit(4); } catch { return 1; } }', 'ProcessExit: The function'],
  ])('%s fails the call with that error, and the next call runs in a new process', async (_what, code, text) => {
    slots = startSlots(1);
    const pid = await run(source('js', 'f:() => process.pid'));
    const outcome = await run(source('js', `f:${code}`));
    expect(outcome.error).toMatchObject({ code: 'RemoteExecutionError', classes: expect.arrayContaining([text.split(':')[0]]) });
    expect(outcome.isLost).toBeUndefined();
    expect(outcome.data).toContain(text);
    const next = await run(source('js', 'f:() => process.pid'));
    expect(next.error).toBeUndefined();
    expect(next.data).not.toBe(pid.data);
  });

  test('an error that a finished call left behind does not fail the one that runs', async () => {
    slots = startSlots(1);
    await run(source('js', 'f:() => { setTimeout(() => { throw new Error("left behind"); }, 50); return 1; }'));
    const next = await run(source('js', 'f:() => new Promise((resolve) => setTimeout(() => resolve(2), 200))'));
    expect(next.data).toBe('11\n2');
  });

  test('a function that fills the memory fails with a sentence, without a lost worker', async () => {
    slots = startSlots(1, python, { NODE_OPTIONS: '--max-old-space-size=64' });
    const outcome = await run(source('js', 'f:() => { const kept = []; for (;;) kept.push(new Array(1e5).fill(kept.length)); }'));
    expect(outcome).toMatchObject({ error: { code: 'RemoteExecutionError' } });
    expect(outcome.data).toMatch(/^OutOfMemory: /);
    expect(outcome.isLost).toBeUndefined();
  });

  test('values that JSON cannot hold are refused by name, and what a function replaces is restored', async () => {
    slots = startSlots(1);
    const refused = await run(source('js', 'f:() => ({ seen: new Set([1]) })'));
    expect(refused.data).toContain('TypeError: The result.seen of the function is of type Set, which JSON cannot hold.');
    expect((await run(source('js', 'f:() => NaN'))).data).toContain('The result of the function is NaN');
    const change = 'f:() => { JSON.stringify = () => "no"; process.env.LEFT = "1"; return { big: 2n ** 70n, left: undefined }; }';
    expect((await run(source('js', change))).data).toBe('11\n{"big":1180591620717411303424}');
    expect((await run(source('js', 'f:() => [JSON.stringify([1]), process.env.LEFT ?? null]'))).data).toBe('11\n["[1]",null]');
  });

  test('a result far over the limit is a failure that names both sizes, and a long error is cut', async () => {
    const large = await begin(source('js', 'f:() => "x".repeat(9_000)'), { maxResultChars: 1_000 }).outcome;
    expect(large.error?.userMessage).toBe('The result has 9005 serialized characters; the limit is 1000.');
    const long = await begin(source('js', 'f:() => { throw new Error("x".repeat(9_000_000)); }'), { maxResultChars: 1_000 })
      .outcome;
    expect(long.error?.code).toBe('RemoteExecutionError');
    expect(long.data.length).toBeLessThanOrEqual(64 * 1024);
  });

  test('an integer that a JavaScript number cannot hold is refused as an argument', async () => {
    const buffer = packBuffer('js', 'f:(n) => n') + packBuffer('11', '[3544790567247868102]') + packBuffer('11', '{}');
    const outcome = await run(buffer);
    expect(outcome.data).toContain('The integer 3544790567247868102 is too large for a JavaScript number.');
  });

  test.each([
    ['esbuild and tsx', '(a) => { const twice = /* @__PURE__ */ __name((n) => n * 2, "twice"); return [twice(a), twice.name]; }'],
    [
      'declarations',
      'function f(a) { var twice = __name(function (n) { return n * 2; }, "twice"); return [twice(a), twice.name]; }',
    ],
  ])('a function that was compiled by %s finds the helper __name', async (_what, code) => {
    expect((await run(source('js', `f:${code}`, [4]))).data).toBe('11\n[8,"twice"]');
  });

  test('what a JavaScript function prints comes with its answer', async () => {
    const code = `f:(n) => {
      console.log('one', n);
      require('node:child_process').execSync('echo two; echo oops >&2', { stdio: 'inherit' });
      console.error('three');
      if (n < 0) throw new RangeError('n');
    }`;
    const output = { stdout: 'one 1\ntwo\n', stderr: 'oops\nthree\n' };
    expect((await run(source('js', code, [1]))).details?.output).toEqual(output);
    expect((await run(source('js', code, [-1]))).details?.output).toMatchObject({ stdout: 'one -1\ntwo\n' });
    expect((await run(source('js', 'f:() => 1'))).details).not.toHaveProperty('output');
    const long = await run(source('js', 'f:() => { for (let n = 0; n < 1e5; n++) console.log("y".repeat(99)); }'));
    expect((long.details?.output as { stdout: string }).stdout).toMatch(/^y+\n[^]*\[\.\.\. 9934464 bytes \.\.\.\][^]*y\n$/);
  });

  test('an endless loop is stopped', async () => {
    expect((await run(source('js', 'f:() => { for (;;); }'), { walltimeMs: 300 })).error?.code).toBe('WalltimeExceeded');
    expect((await run(source('js', 'f:() => 1'))).data).toBe('11\n1');
  });

  test('arguments that are not JSON are refused', async () => {
    const outcome = await run(packBuffer('js', 'f:() => 1') + packBuffer('00', 'x') + packBuffer('00', 'x'));
    expect(outcome.error?.code).toBe('InvalidTask');
  });
});

describe('shell functions', () => {
  test('output, exit code and command come back', async () => {
    const outcome = await run(source('sh', 'f:echo {0}; echo {who} >&2', ['a b'], { who: "it's" }));
    expect(JSON.parse(outcome.data.slice(3))).toEqual({
      returncode: 0,
      stdout: 'a b\n',
      stderr: "it's\n",
      cmd: `echo 'a b'; echo 'it'\\''s' >&2`,
    });
  });

  test('a non-zero exit is a failure with its code and the end of stderr', async () => {
    const outcome = await run(source('sh', 'f:echo why >&2; exit 3'));
    expect(outcome).toMatchObject({ error: { code: 'RemoteExecutionError' }, exitCode: 3 });
    expect(outcome.data).toMatch(/^why\nShellCommandFailed: the command exited with code 3/);
  });

  test('the exit code of a command that a signal ended is 128 and the number of the signal', async () => {
    for (const [signal, number] of [
      ['USR1', 10],
      ['KILL', 9],
    ] as const) {
      const outcome = await run(source('sh', `f:kill -${signal} $$`));
      expect(outcome).toMatchObject({ error: { code: 'RemoteExecutionError' }, exitCode: 128 + number });
      expect(outcome.data).toMatch(new RegExp(`the command was ended by SIG${signal}`));
    }
  });

  test('what a command leaves in the background ends with it', async () => {
    const outcome = await run(source('sh', 'f:sleep 600 & echo $!'));
    const pid = Number((JSON.parse(outcome.data.slice(3)) as { stdout: string }).stdout);
    await until(() => !isRunning(pid));
  });

  test('only the end of a long output is kept', async () => {
    const outcome = await run(source('sh', 'f:yes x | head -c 5000000; echo end'));
    const { stdout } = JSON.parse(outcome.data.slice(3)) as { stdout: string };
    expect(stdout.length).toBe(1024 * 1024);
    expect(stdout.endsWith('end\n')).toBe(true);
  });
});

describe('slots', () => {
  test('a running call is stopped with its children and answers as its stopper says', async () => {
    const call = begin(source('sh', `f:sleep 600 & echo $! > ${dir}/pid; wait`));
    await until(() => fs.existsSync(path.join(dir, 'pid')) && fs.readFileSync(path.join(dir, 'pid'), 'utf8') !== '');
    slots.stop(call.taskId, 'Cancelled', 'Stopped.');
    expect(await call.outcome).toMatchObject({ data: 'Stopped.', error: { code: 'Cancelled' } });
    await until(() => !isRunning(Number(fs.readFileSync(path.join(dir, 'pid'), 'utf8'))));
  });

  test('a command that ignores SIGTERM is killed', async () => {
    const call = begin(source('sh', `f:trap '' TERM; touch ${dir}/up; while :; do sleep 0.1; done`));
    await until(() => fs.existsSync(path.join(dir, 'up')));
    slots.stop(call.taskId, 'Cancelled', 'Stopped.');
    expect((await call.outcome).error?.code).toBe('Cancelled');
  });

  test('no more calls run at once than there are slots, in the order they came', async () => {
    const order: number[] = [];
    const calls = Array.from({ length: 6 }, (_, index) =>
      run(source('sh', `f:touch run.${index}; ls run.* | wc -l; sleep 0.1; rm run.${index}`), {
        onStart: () => order.push(index),
      }),
    );
    const outcomes = await Promise.all(calls);
    const together = outcomes.map(({ data }) => Number((JSON.parse(data.slice(3)) as { stdout: string }).stdout));
    expect(order).toEqual([0, 1, 2, 3, 4, 5]);
    expect(Math.max(...together)).toBe(2);
    expect(slots.idle).toBe(2);
  });

  test('a call that waits can be withdrawn', async () => {
    const busy = [run(source('sh', 'f:sleep 0.3')), run(source('sh', 'f:sleep 0.3'))];
    const onWithdrawn = jest.fn();
    const onStart = jest.fn();
    const { taskId } = begin(source('sh', 'f:true'), { onWithdrawn, onStart });
    slots.withdraw(taskId);
    await Promise.all(busy);
    expect(onWithdrawn).toHaveBeenCalledTimes(1);
    expect(onStart).not.toHaveBeenCalled();
  });
});

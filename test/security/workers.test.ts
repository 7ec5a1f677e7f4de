import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import { packBuffer, packJsonArguments } from '../../contracts/packing';
import { readConfig } from '../../endpoint/config';
import type { Confinement } from '../../endpoint/runners/confinement';
import { createJavaScriptPool } from '../../endpoint/runners/javascript';
import { ControlGroups } from '../../endpoint/runners/limits';
import { OwnerFolders } from '../../endpoint/runners/owner-folders';
import { ProcessGroups } from '../../endpoint/runners/process-groups';
import { createPythonPool } from '../../endpoint/runners/python';
import type { Outcome } from '../../endpoint/runners/runner';
import { ShellRunner } from '../../endpoint/runners/shell';
import { Slots } from '../../endpoint/runners/slots';
import { ownerKey } from '../../platform/owner-keys';
import { agentPython } from '../helpers/agent-python';
import { NO_SANDBOX, testUnless } from '../helpers/conditions';

/** Functions of one owner that look for what functions of another one left in their worker. */

jest.setTimeout(60_000);

const NOBODY = { uid: 65534, gid: 65534 };
const isRoot = process.getuid?.() === 0;
const ALICE = ownerKey('00'.repeat(32), 'queue', 'alice');
const BOB = ownerKey('00'.repeat(32), 'queue', 'bob');

let python: string;
let dir: string;
let logFd: number;
let tasks = 0;
const groups = new ProcessGroups();
let opened: Slots[] = [];

beforeAll(async () => {
  python = await agentPython();
}, 300_000);
afterAll(() => groups.close());
beforeEach(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'funcx-owners-'));
  fs.chmodSync(dir, 0o755);
  fs.mkdirSync(path.join(dir, 'tasks'));
  logFd = fs.openSync(path.join(dir, 'workers.log'), 'a');
});
afterEach(async () => {
  await Promise.all(opened.map((slots) => slots.close(0)));
  opened = [];
  fs.closeSync(logFd);
  await until(() => {
    fs.rmSync(dir, { recursive: true, force: true });
    return true;
  });
});

function startSlots(count: number, more: Partial<Confinement> = {}): Slots {
  const confinement = { runDir: path.join(dir, 'tasks'), dir, ...more };
  const log = { warn: () => undefined };
  const shared = {
    env: { ...process.env, FUNCX_RUN_DIR: confinement.runDir, FUNCX_SANDBOX: '0' },
    confinement,
    folders: new OwnerFolders({ confinement, log }),
    slots: count,
    groups,
    hostname: 'testhost',
    logFd,
    logPath: path.join(dir, 'workers.log'),
    log,
  };
  const pools = { python: createPythonPool(python, shared), javascript: createJavaScriptPool(shared) };
  const slots = new Slots(count, () => ({
    python: pools.python.runner(),
    javascript: pools.javascript.runner(),
    shell: new ShellRunner(shared),
  }));
  opened.push(slots);
  return slots;
}

function run(slots: Slots, owner: string, identifier: string, code: string, onStart = (): void => undefined): Promise<Outcome> {
  return new Promise((onOutcome) =>
    slots.add({
      taskId: `00000000-0000-8000-8000-${String(++tasks).padStart(12, '0')}`,
      owner,
      buffer: packBuffer(identifier, code) + packJsonArguments([], {}),
      maxResultChars: 1_000_000,
      resultSerializers: ['globus_compute_sdk.serialize.JSONData'],
      onStart,
      onOutcome,
      onWithdrawn: () => undefined,
    }),
  );
}

async function value(slots: Slots, owner: string, identifier: string, code: string): Promise<unknown> {
  const { data, error } = await run(slots, owner, identifier, code);
  if (error) throw new Error(data);
  return JSON.parse(data.slice(3)) as unknown;
}

async function until(condition: () => boolean, deadlineMs = 10_000): Promise<void> {
  const end = Date.now() + deadlineMs;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`not within ${deadlineMs} ms: ${condition.toString()}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const PY_PID = 'f:def f():\n    import os\n    return os.getpid()\n';
const JS_PID = 'f:() => process.pid';
/** Leaves a thread behind that writes down the local variables of every later call. */
const PY_SPY = `f:def f():
    import builtins, sys, threading, time
    builtins.seen = []
    def spy():
        while True:
            for frame in list(sys._current_frames().values()):
                while frame is not None:
                    builtins.seen.extend(v for v in list(frame.f_locals.values()) if isinstance(v, str) and v.startswith("secret of"))
                    frame = frame.f_back
            time.sleep(0.002)
    threading.Thread(target=spy, daemon=True).start()
`;
const PY_SECRET = 'f:def f():\n    import time\n    secret = "secret of alice"\n    time.sleep(0.2)\n    return secret\n';
const PY_LOOT = 'f:def f():\n    import builtins\n    return sorted(set(getattr(builtins, "seen", [])))\n';

describe('a worker', () => {
  test('of Python is never shared: a thread of one owner does not see the variables of the next', async () => {
    const slots = startSlots(1);
    expect(await value(slots, BOB, 'st', PY_SPY)).toBeNull();
    expect(await value(slots, ALICE, 'st', PY_SECRET)).toBe('secret of alice');
    expect(await value(slots, BOB, 'st', PY_LOOT)).toEqual([]);
    // The attack works on one's own calls: the worker stays warm for the same owner.
    expect(await value(slots, BOB, 'st', PY_SECRET)).toBe('secret of alice');
    expect(await value(slots, BOB, 'st', PY_LOOT)).toEqual(['secret of alice']);
  });

  test('of JavaScript is never shared either', async () => {
    const slots = startSlots(1);
    expect(await value(slots, BOB, 'js', 'f:() => { globalThis.kept = 1; return 1; }')).toBe(1);
    expect(await value(slots, ALICE, 'js', 'f:() => globalThis.kept ?? null')).toBeNull();
    expect(await value(slots, BOB, 'js', 'f:() => globalThis.kept ?? null')).toBe(1);
  });

  test.each([
    ['Python', 'st', PY_PID],
    ['JavaScript', 'js', JS_PID],
  ])('of %s stays warm for its owner, and a new owner gets one that was started before', async (_kind, identifier, code) => {
    const slots = startSlots(1);
    const first = await value(slots, ALICE, identifier, code);
    expect(await value(slots, ALICE, identifier, code)).toBe(first);
    const second = await value(slots, BOB, identifier, code);
    expect(second).not.toBe(first);
    expect(await value(slots, ALICE, identifier, code)).toBe(first);
    // From the second owner on, one started worker is kept that serves nobody.
    const children = (): number => fs.readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').trim().split(' ').length;
    await until(() => children() >= 4); // two workers, the spare one, and the guard of process groups
    const startedMs = Date.now();
    await value(slots, 'carol', identifier, code);
    expect(Date.now() - startedMs).toBeLessThan(1_000);
  });

  test('of the owner who rested longest ends when many owners came after', async () => {
    const slots = startSlots(1);
    const first = Number(await value(slots, ALICE, 'js', JS_PID));
    for (let other = 1; other <= 9; other++) await value(slots, `owner-${other}`, 'js', JS_PID);
    await until(() => !fs.existsSync(`/proc/${first}`));
  });

  test('of each of ten owners stays while all of them have work', async () => {
    const slots = startSlots(2);
    const owners = Array.from({ length: 10 }, (_, n) => `owner-${n}`);
    const warm = new Set<unknown>();
    for (const owner of owners) warm.add(await value(slots, owner, 'js', JS_PID));
    // Two calls of one owner follow each other: the second must wait for the first, not take the place of another owner's worker.
    const order = Array.from({ length: 10 }, () => owners.flatMap((owner) => [owner, owner])).flat();
    const used = await Promise.all(order.map((owner) => value(slots, owner, 'js', JS_PID)));
    const started = new Set(used.filter((pid) => !warm.has(pid)));
    expect(started.size).toBeLessThanOrEqual(3); // a slow machine may need a few
  });

  test('of an owner who needs one more stays, where the workers of other owners only rest', async () => {
    const slots = startSlots(2);
    for (let other = 1; other <= 9; other++) await value(slots, `owner-${other}`, 'js', JS_PID);
    const slow = 'f:() => { const end = Date.now() + 40; while (Date.now() < end); return process.pid; }';
    const used = await Promise.all(Array.from({ length: 60 }, () => value(slots, ALICE, 'js', slow)));
    expect(new Set(used).size).toBe(2);
  });
});

describe('the log of workers', () => {
  const LATE = `f:def f():
    import threading, time
    def later():
        time.sleep(0.3)
        print("late output of alice", flush=True)
    threading.Thread(target=later).start()
`;
  const LOOK = `f:def f():
    import os
    found = []
    for attempt in [lambda: os.pread(4, 100, 0), lambda: os.ftruncate(4, 0), lambda: open("/proc/self/fd/4", "rb").read(100)]:
        try:
            found.append(str(attempt()))
        except OSError:
            pass
    return found
`;

  test('gets what a function prints later, and no function can read or empty it', async () => {
    const slots = startSlots(1);
    const logged = (): string => fs.readFileSync(path.join(dir, 'workers.log'), 'utf8');
    await value(slots, ALICE, 'st', LATE);
    await new Promise((resolve) => setTimeout(resolve, 500)); // the time in which the thread prints
    await value(slots, ALICE, 'st', PY_PID);
    await until(() => logged().includes('late output of alice'));
    expect(await value(slots, BOB, 'st', LOOK)).toEqual([]);
    expect(logged()).toContain('late output of alice');
  });
});

describe('a worker that sends', () => {
  const SEND =
    'f:def f():\n    import os, struct\n    os.write(3, struct.pack(">II", 0xffffffff, 0xffffffff))\n    os.write(3, b"x" * 10_000_000)\n';

  test('a frame without end is ended, and the agent serves others', async () => {
    const slots = startSlots(1);
    const { error, isLost } = await run(slots, BOB, 'st', SEND);
    expect([error?.code, isLost]).toEqual(['WorkerLost', true]);
    expect(await value(slots, ALICE, 'js', 'f:() => 1')).toBe(1);
  });
});

describe('the folders', () => {
  const LOOK = `f:def f():
    import os, tempfile
    fd, name = tempfile.mkstemp()
    os.write(fd, b"x")
    open("kept", "a").write("x")
    return [os.getcwd(), os.path.expanduser("~"), name, os.stat("kept").st_size]
`;

  test('of each owner are its own, and its temporary folder is emptied when its last worker ends', async () => {
    const slots = startSlots(1);
    const of = async (owner: string): Promise<[string, string, string, number]> =>
      (await value(slots, owner, 'st', LOOK)) as [string, string, string, number];
    const [own, alice, bob] = [await of('own'), await of(ALICE), await of(BOB)];
    expect(own[0]).toBe(fs.realpathSync(path.join(dir, 'tasks')));
    for (const [owner, seen] of [
      [ALICE, alice],
      [BOB, bob],
    ] as const) {
      const base = path.join(fs.realpathSync(dir), 'owners', owner);
      expect(seen).toEqual([
        `${base}/work`,
        path.join(dir, 'owners', owner, 'work'),
        expect.stringContaining(`${owner}/tmp/`),
        1,
      ]);
    }
    expect((await of(ALICE))[3]).toBe(2);
    expect(await value(slots, ALICE, 'js', 'f:() => [process.cwd(), require("os").tmpdir()]')).toEqual([
      alice[0],
      path.join(dir, 'owners', ALICE, 'tmp'),
    ]);
    const shell = (await value(slots, ALICE, 'sh', 'f:pwd; echo $HOME $TMPDIR')) as { stdout: string };
    expect(shell.stdout).toContain(`${alice[0]}\n`);
    await slots.close(0);
    await until(() => fs.readdirSync(path.join(dir, 'owners', ALICE, 'tmp')).length === 0);
    expect(fs.existsSync(path.join(dir, 'owners', ALICE, 'work', 'kept'))).toBe(true);
  });
});

describe('in a sandbox of the same user as the agent', () => {
  const REPLACE = `f:def f():
    import os
    for folder in [os.environ["TMPDIR"], os.environ["HOME"]]:
        os.rename(folder, folder + "-before")
        os.symlink("VICTIM", folder)
    return [os.environ["TMPDIR"], os.environ["HOME"]]
`;

  testUnless(NO_SANDBOX)('a function that replaces its folders by links reaches no other folder', async () => {
    const victim = path.join(dir, 'victim');
    fs.mkdirSync(victim);
    fs.writeFileSync(path.join(victim, 'secret'), 'kept');
    const more = { hidden: [dir, os.homedir()] };
    const slots = startSlots(1, more);
    await value(slots, 'own', 'st', PY_PID);
    const replaced = (await value(slots, BOB, 'st', REPLACE.replace('VICTIM', victim))) as string[];
    for (const folder of replaced) expect(fs.readlinkSync(folder)).toBe(victim);
    const shell = await run(slots, BOB, 'sh', `f:echo lost > ${victim}/secret; cat secret ${victim}/*`);
    expect(JSON.stringify(shell)).not.toContain('kept');
    await slots.close(0);
    // As at the next start of the agent.
    const confinement = { runDir: path.join(dir, 'tasks'), dir, ...more };
    await new OwnerFolders({ confinement, log: { warn: () => undefined } }).clean();
    expect(fs.readFileSync(path.join(victim, 'secret'), 'utf8')).toBe('kept');
  });

  const DAMAGE = {
    'without rights': 'os.chmod(base, 0)',
    'that is a file': 'os.rename(base, base + "-before"); open(base, "w").close()',
    'that is a link to itself': 'os.rename(base, base + "-before"); os.symlink(base, base)',
    'that is a link to another folder': 'os.rename(base, base + "-before"); os.symlink("VICTIM", base)',
    'in a folder without rights': 'os.chmod(os.path.dirname(base), 0)',
  };

  for (const [how, damage] of Object.entries(DAMAGE))
    testUnless(NO_SANDBOX)(
      `a function that leaves the agent a folder ${how} stops neither the agent nor its next start`,
      async () => {
        const victim = path.join(dir, 'victim');
        fs.mkdirSync(victim);
        const more = { hidden: [dir, os.homedir()] };
        const slots = startSlots(1, more);
        await value(slots, 'own', 'st', PY_PID);
        const code = `f:def f():\n    import os\n    base = os.path.dirname(os.environ["HOME"])\n    ${damage.replace('VICTIM', victim)}\n`;
        expect(await value(slots, BOB, 'st', code)).toBeNull();
        await slots.close(0);
        const warnings: unknown[] = [];
        const log = { warn: (...given: unknown[]) => void warnings.push(given) };
        const folders = new OwnerFolders({ confinement: { runDir: path.join(dir, 'tasks'), dir, ...more }, log });
        folders.ownerLeft(BOB);
        await folders.clean();
        expect(await value(startSlots(1, more), BOB, 'st', PY_PID)).toEqual(expect.any(Number));
        await folders.clean();
        expect(
          fs
            .readdirSync(path.join(dir, 'owners'))
            .filter((name) => name.startsWith('broken-') && !fs.lstatSync(path.join(dir, 'owners', name)).isDirectory()),
        ).toEqual([]);
        expect(fs.readdirSync(victim)).toEqual([]);
      },
    );

  test('the files of an owner stay where another owner, or a full disk, is the problem', () => {
    const warnings: unknown[] = [];
    const log = { warn: (...given: unknown[]) => void warnings.push(given) };
    const folders = new OwnerFolders({ confinement: { runDir: path.join(dir, 'tasks'), dir }, log });
    const { runDir, tmpDir } = folders.folderOf(ALICE)!; // not isolated
    fs.writeFileSync(path.join(runDir, 'kept'), '');
    fs.chmodSync(path.join(dir, 'owners'), 0);
    expect(folders.folderOf(ALICE)).toEqual({ runDir, tmpDir });
    fs.rmdirSync(tmpDir);
    const mkdir = jest.spyOn(fs, 'mkdirSync').mockImplementation((given) => {
      if (given === tmpDir) throw Object.assign(new Error('no space left'), { code: 'ENOSPC' });
      return undefined;
    });
    try {
      expect(() => folders.folderOf(ALICE)).toThrow('no space left');
    } finally {
      mkdir.mockRestore();
    }
    expect(fs.readdirSync(runDir)).toEqual(['kept']);
    expect([fs.readdirSync(path.join(dir, 'owners')), warnings]).toEqual([[ALICE], []]);
  });

  testUnless(NO_SANDBOX)('the temporary folder of an owner is emptied', async () => {
    const slots = startSlots(1, { hidden: [dir, os.homedir()] });
    const fill = 'f:def f():\n    import os, tempfile\n    os.mkdir(tempfile.mkdtemp() + "/inner", 0)\n';
    await value(slots, BOB, 'st', fill);
    const folder = path.join(dir, 'owners', BOB, 'tmp');
    expect(fs.readdirSync(folder)).toHaveLength(1);
    await slots.close(0);
    await until(() => fs.readdirSync(folder).length === 0);
  });
});

describe('with --isolate', () => {
  const spyOn = (folder: string): string => `f:def f():
    import glob, os
    found = []
    for path in glob.glob("/proc/[0-9]*/environ") + glob.glob("${folder}/**", recursive=True):
        try:
            open(path, "rb").close()
        except OSError:
            continue
        found.append(path)
    own = ("/proc/%d/environ" % os.getpid(), "/proc/1/environ")
    return [path for path in found if path not in own]
`;
  const confinement = (): Partial<Confinement> => ({
    isIsolated: true,
    hidden: [dir, os.homedir()],
    ...(isRoot ? { user: NOBODY } : {}),
  });

  testUnless(NO_SANDBOX)('a function sees no process and no folder of other workers, and leaves nothing behind', async () => {
    fs.writeFileSync(path.join(dir, 'endpoint.json'), '{}');
    const slots = startSlots(2, confinement());
    const hold = run(slots, ALICE, 'st', 'f:def f():\n    import time\n    open("mark", "w").write("a")\n    time.sleep(2)\n');
    await until(() => fs.existsSync(path.join(dir, 'cells')) && findMarks().length === 1);
    expect(await value(slots, BOB, 'st', spyOn(dir))).toEqual([]);
    const shell = (await value(slots, BOB, 'sh', `f:ls -d ${dir}/*; echo x > /tmp/funcx-mark; cat /tmp/funcx-mark`)) as {
      stdout: string;
    };
    expect(shell.stdout).toBe(`${dir}/cells\nx\n`);
    expect(await value(slots, BOB, 'js', 'f:() => require("fs").readdirSync(require("path").resolve("../.."))')).toHaveLength(1);
    expect(fs.existsSync('/tmp/funcx-mark')).toBe(false);
    await hold;
    await slots.close(0);
    await until(() => fs.readdirSync(path.join(dir, 'cells')).length === 0);
  });

  const findMarks = (): string[] =>
    fs.readdirSync(path.join(dir, 'cells')).filter((cell) => fs.existsSync(path.join(dir, 'cells', cell, 'work', 'mark')));

  test('an agent of root without another user for functions does not start', () => {
    const env = { FUNCX_API_URL: 'http://x', FUNCX_CLIENT_ID: 'a', FUNCX_CLIENT_SECRET: 'b', FUNCX_ENDPOINT_DIR: dir };
    if (isRoot) expect(() => readConfig({ ...env, FUNCX_ISOLATE: '1' })).toThrow('cannot confine root: set FUNCX_WORKER_USER');
    const bare = { ...env, FUNCX_ISOLATE: '1', FUNCX_WORKER_USER: '65534:65534', PATH: '/nonexistent' };
    expect(() => readConfig(bare)).toThrow('FUNCX_ISOLATE=1 needs bubblewrap');
  });
});

describe('limits', () => {
  test('of the kernel stop memory, open files and large files of a function with an error of the function', async () => {
    const slots = startSlots(1, { limits: { memoryBytes: 700 * 2 ** 20, openFiles: 150, fileBytes: 2 ** 20 } });
    const memory = await run(slots, ALICE, 'st', 'f:def f():\n    return len(bytearray(1 << 30))\n');
    expect(memory.data).toContain('MemoryError');
    const files = await run(slots, ALICE, 'st', 'f:def f():\n    kept = [open("/dev/null") for _ in range(200)]\n');
    expect(files.data).toContain('Too many open files');
    const large =
      'f:def f():\n    import signal\n    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n    open("x", "wb").write(bytes(1 << 22))\n';
    expect((await run(slots, ALICE, 'st', large)).data).toContain('File too large');
    const heap = await run(slots, ALICE, 'js', 'f:() => { const kept = []; for (;;) kept.push(new Array(1e6).fill(1)); }');
    expect(heap.data).toMatch(/^OutOfMemory: /);
    expect(await value(slots, ALICE, 'st', 'f:def f():\n    return 1\n')).toBe(1);
  });

  test('are those of control groups where the agent may make them', () => {
    const root = path.join(dir, 'cgroup');
    const own = path.join(root, 'agent.slice');
    fs.mkdirSync(own, { recursive: true });
    fs.writeFileSync(path.join(dir, 'self'), '0::/agent.slice\n');
    expect(ControlGroups.open(root, path.join(dir, 'self'))).toBeUndefined(); // no controllers
    fs.writeFileSync(path.join(own, 'cgroup.controllers'), 'cpu memory pids\n');
    const made = ControlGroups.open(root, path.join(dir, 'self'));
    expect(fs.readFileSync(path.join(own, 'agent', 'cgroup.procs'), 'utf8')).toBe(String(process.pid));
    const group = made?.add(4711, { memoryBytes: 1000, processes: 9 });
    const folder = path.join(own, `worker-${process.pid}-1`);
    const read = (name: string): string => fs.readFileSync(path.join(folder, name), 'utf8');
    expect(['memory.max', 'pids.max', 'cgroup.procs'].map(read)).toEqual(['1000', '9', '4711']);
    expect(group?.ranOutOfMemory).toBe(false);
    fs.writeFileSync(path.join(folder, 'memory.events'), 'low 0\noom 1\noom_kill 1\n');
    expect(group?.ranOutOfMemory).toBe(true);
    group?.end();
    expect(read('cgroup.kill')).toBe('1');
  });
});

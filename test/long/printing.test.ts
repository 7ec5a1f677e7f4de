import { Agent, Http } from '../helpers/system';

/** What functions print, in large numbers and in large amounts. */

const TASKS = 1_000;
const LINES = 40;
const TIMEOUT_MS = 600_000;
const MAX_OUTPUT_CHARS = 70_000;

const http = new Http();
const agent = new Agent('printing', { FUNCX_WORKERS: '8' });

beforeAll(() => agent.start());
afterAll(() => agent.stop());

interface Printed {
  stdout: string;
  stderr: string;
}

const outputOf = async (taskId: string): Promise<Printed> =>
  ((await http.answer(taskId, TIMEOUT_MS)).details as { output: Printed }).output;

/** Each yields in the middle of its lines, so that tasks that shared a stream would mix them. */
const SOURCES = {
  python: `def chatter(name, lines):
    import os, subprocess, sys, threading, time
    for line in range(lines):
        sys.stdout.write("%s " % name)
        if line % 10 == 0:
            time.sleep(0.001)
        sys.stdout.write("line %d\\n" % line)
        print("%s warns %d" % (name, line), file=sys.stderr)
    thread = threading.Thread(target=print, args=("%s thread" % name,))
    thread.start()
    thread.join()
    sys.stdout.flush()
    subprocess.run(["echo", "%s child" % name])
    return name
`,
  javascript: `async (name, lines) => {
    for (let line = 0; line < lines; line++) {
      process.stdout.write(name + ' ');
      if (line % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
      console.log('line %d', line);
      console.error('%s warns %d', name, line);
    }
    console.log(name + ' thread');
    console.log(name + ' child');
    return name;
  }`,
};

const numbers = Array.from({ length: LINES }, (_, line) => line);
const outOf = (name: string): string =>
  [...numbers.map((line) => `${name} line ${line}`), `${name} thread`, `${name} child`, ''].join('\n');
const errOf = (name: string): string => [...numbers.map((line) => `${name} warns ${line}`), ''].join('\n');

test.each(['python', 'javascript'] as const)(
  `${TASKS} concurrent tasks in %s each have their own lines, all of them, in order`,
  async (language) => {
    const functionId = await http.register('chatter', SOURCES[language], language);
    const names = Array.from({ length: TASKS }, (_, n) => `${language}-${n}`);
    const { taskIds } = await http.submit(
      agent.id,
      functionId,
      names.map((name) => [name, LINES]),
    );
    for (const [index, name] of names.entries()) {
      expect(await outputOf(taskIds[index]!)).toEqual({ stdout: outOf(name), stderr: errOf(name) });
    }
  },
  TIMEOUT_MS,
);

test(
  'a task that prints 1 GB ends with its value and with the start and the end of its output, and the next task has its own',
  async () => {
    const source = `def flood():
    import sys
    print("first line")
    block = "x" * 1023 + "\\n"
    for _ in range(1024 * 1024):
        sys.stdout.write(block)
    print("last line")
    return 42
`;
    const flood = await http.register('flood', source);
    const taskId = await http.submitOne(agent.id, flood, []);
    expect(await http.value(taskId, TIMEOUT_MS)).toBe(42);
    const { stdout, stderr } = await outputOf(taskId);
    expect(stdout.length).toBeLessThan(MAX_OUTPUT_CHARS);
    expect(stdout.startsWith('first line\nx')).toBe(true);
    expect(stdout).toMatch(/\n\[\.\.\. \d+ bytes \.\.\.\]\n/);
    expect(stdout.endsWith('x\nlast line\n')).toBe(true);
    expect(stderr).toBe('');
    const quiet = await http.register('quiet', 'def quiet():\n    print("quiet")\n    return 1\n');
    const next = await http.submit(
      agent.id,
      quiet,
      Array.from({ length: 16 }, () => []),
    );
    for (const id of next.taskIds) expect(await outputOf(id)).toEqual({ stdout: 'quiet\n', stderr: '' });
  },
  TIMEOUT_MS,
);

import { spawnSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { Client } from '../../sdk/index';
import { sdkClient } from '../helpers/sdk';
import { Agent, dataDir, funcx, startFuncx, state } from '../helpers/system';
import { until } from '../helpers/until';

/* eslint-disable @typescript-eslint/no-explicit-any -- what the command line prints is looked into */

/** The command line as people use it every day. */

const dir = mkdtempSync(join(tmpdir(), 'funcx-everyday-'));
const unique = Date.now().toString(36);
let client: Client;
beforeAll(() => {
  client = sdkClient();
});
afterAll(() => client.close());

function text(...args: string[]): string {
  const { status, stdout, stderr } = funcx(args);
  if (status !== 0) throw new Error(`funcx ${args.join(' ')}: ${status} ${stderr}`);
  return stdout;
}
const json = (...args: string[]): any => JSON.parse(text(...args, '--json'));

function file(name: string, content: string): string {
  const path = join(dir, name);
  writeFileSync(path, content);
  return path;
}

test('the variables of "env" are right on every port, and "exec" runs a command with them', () => {
  const variables = json('env');
  expect(variables).toMatchObject({
    FUNCX_API_URL: state().api_url,
    HTTP_PROXY: state().api_url,
    http_proxy: state().api_url,
    TEMPORAL_ADDRESS: state().temporal_address,
  });
  const print = 'process.stdout.write(process.env.HTTP_PROXY + " " + process.argv[1]); process.exit(7)';
  expect(funcx(['exec', '--', process.execPath, '-e', print, '--', '--json'])).toMatchObject({
    status: 7,
    stdout: `${state().api_url} --json`,
  });
  expect(funcx(['exec', '--', 'no-such-command'])).toMatchObject({
    status: 127,
    stderr: 'There is no command no-such-command.\n',
  });
  // Without the exception, the proxy would not be asked for localhost.
  const excepted = funcx(['env', '--json'], { no_proxy: 'localhost,example.org' }).stdout;
  expect(JSON.parse(excepted)).toMatchObject({ no_proxy: 'example.org', NO_PROXY: 'example.org' });
});

test('"status" prints the addresses', () => {
  const shown = text('status');
  for (const address of [state().api_url, state().temporal_ui_url ?? '', state().temporal_address])
    expect(shown).toContain(address);
});

test('a pipe that closes early ends a command without a word', () => {
  const { status, stderr } = spawnSync(
    'bash',
    ['-c', 'set -o pipefail; ./bin/funcx submission list --limit 1000 | head -n 1 >/dev/null'],
    {
      encoding: 'utf8',
      cwd: join(__dirname, '..', '..'),
      env: { ...process.env, FUNCX_DATA_DIR: dataDir() },
    },
  );
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
});

test('an unchanged file is registered once, its source is shown, and the newest of a name is meant', () => {
  const name = `twice_${unique}`;
  const path = file('twice.py', `def ${name}(n):\n    return 2 * n\n`);
  for (const n of [1, 2]) expect(json('run', path, '--endpoint', 'local', '--args', `[${n}]`).value).toBe(2 * n);
  expect(json('function', 'list', '--name', name).functions).toHaveLength(1);
  expect(text('function', 'show', name)).toMatch(new RegExp(`\\n\\ndef ${name}\\(n\\):\\n    return 2 \\* n\\n$`));
  writeFileSync(path, `def ${name}(n):\n    return 3 * n\n`);
  expect(json('run', path, '--endpoint', 'local', '--args', '[1]').value).toBe(3);
  expect(json('function', 'list', '--name', name).functions).toHaveLength(2);
  expect(json('function', 'show', name).function_code).toContain('3 * n');
});

test('one call for each argument set of a file, values in their order, failures beside them', () => {
  const path = file('half.py', 'def half(n):\n    assert n % 2 == 0, f"{n} is odd"\n    return n // 2\n');
  const { status, stdout, stderr } = funcx([
    'run',
    path,
    '--endpoint',
    'local',
    '--map',
    file('sets.jsonl', '[4]\n{"n": 3}\n6\n'),
  ]);
  expect(status).toBe(1);
  expect(stdout).toBe('2\n\n3\n');
  expect(stderr).toMatch(/3\/3 {2}100 % .*1 failed/);
  expect(stderr).toMatch(/Argument set 2: AssertionError: 3 is odd/);
});

test('the state of an endpoint is told in words, also to those who may only use it', async () => {
  const shown = text('endpoint', 'status', 'local');
  expect(shown).toMatch(
    /status +online since \S+ \S+ \S+ \([^]*waiting +nothing\nin hand +\d+ of at most \d+ tasks\nworkers +\d+/,
  );
  expect(shown).toContain('/user-metadata');
  const guest = json('identity', 'create', `guest-${unique}`);
  const agent = await new Agent(`open-${unique}`, { FUNCX_ENDPOINT_PUBLIC: '1' }).start();
  try {
    const as = { FUNCX_API_URL: state().api_url, FUNCX_CLIENT_ID: guest.client_id, FUNCX_CLIENT_SECRET: guest.client_secret };
    const seen = funcx(['endpoint', 'status', `open-${unique}`, '--json'], as);
    expect(JSON.parse(seen.stdout)).toMatchObject({ status: 'online', public: true, owner_name: 'admin', waiting_owners: [] });
  } finally {
    await agent.stop();
  }
});

test('"watch" shows everything of mine, says what it waits for, and lists the failures at the end', async () => {
  const agent = await new Agent(`watched-${unique}`).start();
  await agent.stop();
  await agent.untilOffline();
  const functionId = await client.registerFunction({
    language: 'python',
    name: 'odd',
    source: 'def odd(n):\n    assert n % 2, "even"\n    return n\n',
  });
  const { taskIds } = await client.submit(
    agent.id,
    [1, 2].map((n) => ({ functionId, args: [n] })),
  );
  const submissionId = `${taskIds[0]?.slice(0, 31)}00000`;
  expect(text('endpoint', 'status', agent.id)).toMatch(
    /status +offline since [^]*waiting +2 tasks, of admin \(2\), the oldest since/,
  );
  const watching = startFuncx(['watch']);
  const one = startFuncx(['watch', submissionId.slice(0, 23)]);
  const wanted = new RegExp(`0/2 {2}0 % {2}waiting for watched-${unique}, offline since \\d\\d:\\d\\d`);
  await until('it says what it waits for', () => wanted.test(one.stdout()));
  await agent.start();
  try {
    expect(await one.exit).toBe(0);
    expect(one.stdout()).toMatch(new RegExp(`2/2 {2}100 %.*1 failed\n${taskIds[1]} {2}failed {2}AssertionError: even\n$`));
    expect(await watching.exit).toBe(0);
    expect(watching.stdout()).toContain(`${taskIds[1]}  failed  AssertionError: even`);
  } finally {
    watching.kill('SIGTERM');
    await agent.stop();
  }
});

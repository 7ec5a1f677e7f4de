import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { identify } from '../../local/processes/process-identity';
import type { Client } from '../../sdk/index';
import { NO_SANDBOX, testUnless } from '../helpers/conditions';
import { sdkClient } from '../helpers/sdk';
import { admin, funcx, localEndpoint, state } from '../helpers/system';
import { until } from '../helpers/until';

/* eslint-disable @typescript-eslint/no-explicit-any -- what the command line prints is looked into */

const dir = mkdtempSync(join(tmpdir(), 'funcx-cli-'));
const unique = Date.now().toString(36);

function json(...args: string[]): any {
  const { status, stdout, stderr } = funcx([...args, '--json']);
  if (status !== 0) throw new Error(`funcx ${args.join(' ')}: ${status} ${stderr}`);
  return JSON.parse(stdout);
}

function file(name: string, text: string): string {
  const path = join(dir, name);
  writeFileSync(path, text);
  return path;
}

describe('the command line', () => {
  let client: Client;
  beforeAll(() => {
    client = sdkClient();
  });
  afterAll(() => client.close());

  test('an identity is made, works, is listed, and is refused once it is revoked', async () => {
    const made = json('identity', 'create', `ann-${unique}`);
    expect(Object.keys(made).sort()).toEqual(['client_id', 'client_secret', 'name']);
    const ann = sdkClient(made);
    expect(await ann.endpoints()).toEqual([]);
    expect(json('identity', 'list').identities).toContainEqual(
      expect.objectContaining({ client_id: made.client_id, revoked_at: null }),
    );
    expect(funcx(['identity', 'revoke', `ann-${unique}`])).toMatchObject({ status: 0 });
    await expect(ann.endpoints()).rejects.toMatchObject({ code: 'UNAUTHENTICATED' });
    ann.close();
  });

  test('an identity takes the id and the secret that it is given', async () => {
    const id = crypto.randomUUID();
    const secret = 'a secret of many letters';
    const { status, stdout } = funcx(
      ['identity', 'create', `ben-${unique}`, '--client-id', id, '--secret-stdin', '--json'],
      {},
      60_000,
      secret,
    );
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toEqual({ client_id: id, client_secret: secret, name: `ben-${unique}` });
    const ben = sdkClient({ client_id: id, client_secret: secret });
    expect(await ben.groups()).toEqual([]);
    ben.close();
  });

  test('a function that is shared with a group is seen by its members only as long as they are members', async () => {
    const cleo = json('identity', 'create', `cleo-${unique}`);
    const group = json('group', 'create', `team-${unique}`);
    expect(json('group', 'add', `team-${unique}`, `cleo-${unique}`).members).toHaveLength(1);
    expect(json('group', 'list').groups).toContainEqual(expect.objectContaining({ id: group.id }));
    const source = file('shared.py', 'def shared():\n    return 1\n');
    const { function_id: id } = json('function', 'register', source, '--group', group.name);
    const member = sdkClient(cleo);
    expect((await member.function(id)).function_name).toBe('shared');
    expect(json('group', 'remove', group.id, cleo.client_id).members).toEqual([]);
    await expect(member.function(id)).rejects.toMatchObject({ code: 'FUNCTION_NOT_FOUND' });
    member.close();
  });

  test('a function is registered, listed, shown and deleted', () => {
    const name = `area_${unique}`;
    const path = file(
      'area.py',
      `import math\nimport os\n\ndef ${name}(r):\n    return math.floor(math.pi * r * r)\n\ndef other():\n    pass\n`,
    );
    const { function_id: id } = json('function', 'register', `${path}:${name}`, '--description', 'of a circle', '--retries', '2');
    expect(json('function', 'list', '--name', name).functions).toMatchObject([{ function_uuid: id, description: 'of a circle' }]);
    const shown = json('function', 'show', name);
    expect(shown.policy).toMatchObject({ retries: { attempts: 2 } });
    expect(shown.function_code).toContain('import math');
    expect(shown.function_code).toContain('def other'); // the whole file
    expect(json('function', 'delete', name)).toEqual({ function_id: id, deleted: true });
    expect(funcx(['function', 'show', id])).toMatchObject({ status: 1 });
  });

  test('a function of a file is run in each language', () => {
    const run = (path: string, ...more: string[]): any => json('run', path, '--endpoint', state().endpoint?.name ?? '', ...more);
    const py = file('run.py', 'from math import sqrt\n\ndef root(n, *, plus=0):\n    return sqrt(n) + plus\n');
    expect(run(`${py}:root`, '--args', '[16]', '--kwargs', '{"plus": 1}').value).toBe(5);
    const js = file('run.js', 'function helper(n) { return n + 1; }\nfunction twice(n) { return 2 * helper(n); }\n');
    expect(run(`${js}:twice`, '--args', '[20]').value).toBe(42);
    const sh = file('run.sh', 'printf %s {0}\n');
    expect(run(sh, '--args', '["a b"]').value).toMatchObject({ stdout: 'a b', returncode: 0 });
    const failing = file('fail.py', 'def fail():\n    raise KeyError("gone")\n');
    const failed = funcx(['run', failing, '--endpoint', localEndpoint()]);
    expect(failed.status).toBe(1);
    expect(failed.stderr).toMatch(/Traceback[^]*KeyError: 'gone'/);
  });

  testUnless(NO_SANDBOX)('two agents of this machine are started, listed, asked, stopped and deleted', async () => {
    const names = [`one-${unique}`, `two-${unique}`];
    const wished = crypto.randomUUID();
    const [one] = json('endpoint', 'start', names[0] ?? '', '--id', wished, '--workers', '1', '--public').endpoints;
    const [two] = json('endpoint', 'start', names[1] ?? '', '--workers', '1').endpoints;
    expect(one).toMatchObject({ id: wished, started: true });
    expect(json('endpoint', 'start', names[0] ?? '').endpoints).toMatchObject([{ pid: one.pid, started: false }]);
    expect(readFileSync(one.log, 'utf8')).toContain(wished);
    const listed = json('endpoint', 'list').endpoints;
    expect(listed).toContainEqual(expect.objectContaining({ id: wished, status: 'online', public: true, pid: one.pid }));
    expect(listed).toContainEqual(expect.objectContaining({ id: two.id, public: false, pid: two.pid }));
    await until('its first report is there', () => json('endpoint', 'status', names[0] ?? '').details.total_workers === 1);
    expect(json('run', file('one.py', 'def one():\n    return 1\n'), '--endpoint', names[1] ?? '').value).toBe(1);

    expect(json('endpoint', 'stop', ...names).endpoints).toMatchObject([{ stopped: true }, { stopped: true }]);
    expect([identify(one.pid), identify(two.pid)]).toEqual([undefined, undefined]); // a zombie does not count
    expect(json('endpoint', 'stop', names[0] ?? '').endpoints).toMatchObject([{ stopped: false }]);
    expect(json('endpoint', 'start', names[0] ?? '').endpoints).toMatchObject([{ id: wished, started: true }]);
    for (const name of names) expect(json('endpoint', 'delete', name).deleted).toBe(true);
    expect(json('endpoint', 'list').endpoints.map((endpoint: { name: string }) => endpoint.name)).not.toContain(names[0]);
    expect(funcx(['endpoint', 'start', '..'])).toMatchObject({ status: 1 });
  });

  testUnless(NO_SANDBOX)(
    'an endpoint is shared with a group and with two functions of it, stays so, and is made private again',
    async () => {
      const name = `shared-${unique}`;
      const dora = json('identity', 'create', `dora-${unique}`);
      json('group', 'create', `lab-${unique}`);
      json('group', 'add', `lab-${unique}`, `dora-${unique}`);
      const member = sdkClient(dora);
      const own = await member.registerFunction({ language: 'python', name: 'own', source: 'def own():\n    return 1\n' });
      const other = await member.registerFunction({ language: 'python', name: 'other', source: 'def other():\n    return 2\n' });
      const [started] = json(
        'endpoint',
        'start',
        name,
        '--group',
        `lab-${unique}`,
        '--functions',
        own,
        '--workers',
        '1',
      ).endpoints;
      try {
        const { taskIds } = await member.submit(started.id, [{ functionId: own }]);
        expect(await member.result(taskIds[0] ?? '')).toBe(1);
        await expect(member.submit(started.id, [{ functionId: other }])).rejects.toMatchObject({ code: 'FORBIDDEN' });
        json('endpoint', 'stop', name);
        json('endpoint', 'start', name, '--workers', '1'); // says nothing about it
        expect((await member.endpoint(started.id)).name).toBe(name);
        json('endpoint', 'stop', name);
        json('endpoint', 'start', name, '--private', '--group', 'none', '--workers', '1');
        await expect(member.submit(started.id, [{ functionId: own }])).rejects.toMatchObject({ code: 'FORBIDDEN' });
      } finally {
        json('endpoint', 'delete', name);
        member.close();
      }
    },
  );

  test('a group of tasks is watched to its end, and its submission and tasks are shown', async () => {
    const endpointId = localEndpoint();
    const functionId = await client.registerFunction({
      language: 'python',
      name: 'odd',
      source: 'def odd(n):\n    assert n % 2, "even"\n    return n\n',
    });
    const { taskGroupId, taskIds } = await client.submit(
      endpointId,
      [1, 2, 3].map((n) => ({ functionId, args: [n] })),
    );
    const { status, stdout } = funcx(['watch', taskGroupId]);
    expect(status).toBe(0);
    const shown = stdout.trim().split('\n');
    expect(shown.filter((line) => line.startsWith('[')).at(-1)).toMatch(/^\[#{30}\] 3\/3 {2}100 % .*1 failed$/);
    expect(shown.at(-1)).toMatch(/failed {2}AssertionError: even$/);
    const lines = funcx(['watch', taskGroupId, '--json']).stdout.trim().split('\n');
    expect(JSON.parse(lines.at(-1) ?? '')).toMatchObject({ total: 3, done: 3, failed: 1, finished: true });

    expect(json('task', taskIds[0] ?? '', '--wait', '5')).toMatchObject({ state: 'succeeded', value: 1 });
    expect(funcx(['task', taskIds[1] ?? ''])).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('AssertionError: even'),
    });
    const id = json('task', taskIds[0] ?? '').submission_id as string;
    expect(json('submission', 'list', '--endpoint', endpointId).submissions[0]).toMatchObject({ submission_id: id, total: 3 });
    expect(json('submission', 'show', id).counts).toEqual({ succeeded: 2, failed: 1 });
  });

  test.each(['task', 'submission', 'group'])('what has no answer yet is cancelled by its %s', async (kind) => {
    const functionId = await client.registerFunction({ language: 'shell', name: 'sleep', source: 'sleep 600' });
    const { taskGroupId, taskIds } = await client.submit(localEndpoint(), [{ functionId }, { functionId }]);
    const [taskId = ''] = taskIds;
    const id = { task: taskId, submission: `${taskId.slice(0, 31)}00000`, group: taskGroupId }[kind] ?? '';
    expect(json('cancel', kind, id)).toEqual({ id, cancelled: kind === 'task' ? 1 : 2 });
    await expect(client.result(taskId)).rejects.toMatchObject({ code: 'Cancelled' });
    await client.cancelGroup(taskGroupId);
  });

  test('a mistake is told in a sentence without a stack, with 2 for the command line and 1 for the rest', () => {
    const cases: [string[], number, RegExp, Record<string, string>?][] = [
      [['function', 'register', '/nowhere/f.py:f'], 1, /There is no file \/nowhere\/f\.py/],
      [['run', file('two.py', 'def a(): pass\ndef b(): pass\n'), '--endpoint', 'x'], 1, /as .*two\.py:NAME; there are: a, b/],
      [['run', file('a.py', 'def a(): pass\n'), '--endpoint', 'nobody-has-this'], 1, /no endpoint named "nobody-has-this"/],
      [['run', 'a.py', '--endpoint', 'x', '--args', '{'], 2, /not JSON/],
      [['task', 'x'], 2, /an id is a UUID/],
      [['cancel', 'group', crypto.randomUUID()], 1, /task group/],
      [['submission', 'list', '--state', 'lost'], 2, /a state is one of waiting/],
      [['endpoint', 'stop', 'nobody-has-this'], 1, /no agent named/],
      [['endpoint', 'stop', state().endpoint?.name ?? ''], 1, /belongs to the system/],
      [['endpoint'], 2, /Usage: funcx endpoint/],
      [['wat'], 2, /unknown command/],
      [
        ['endpoint', 'list'],
        1,
        /client ID or secret is wrong/,
        { FUNCX_API_URL: state().api_url, FUNCX_CLIENT_ID: admin().client_id, FUNCX_CLIENT_SECRET: 'wrong' },
      ],
    ];
    for (const [args, status, text, env] of cases) {
      const ended = funcx(args, env);
      expect({ args, status: ended.status }).toEqual({ args, status });
      expect(ended.stderr).toMatch(text);
      expect(ended.stderr).not.toMatch(/^ {4}at /m);
    }
  });
});

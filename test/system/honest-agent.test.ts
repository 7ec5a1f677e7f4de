import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { Agent, Http } from '../helpers/system';
import { until } from '../helpers/until';

/** An agent whose workers cannot run functions takes no tasks; a function cannot bring it into that state. */

const http = new Http();

test('a function that removes its working directory breaks no later task', async () => {
  const agent = await new Agent('homeless', { FUNCX_WORKERS: '1' }).start();
  try {
    const remove = 'def remove():\n    import os, shutil\n    shutil.rmtree(os.getcwd())\n    return "gone"';
    const write = 'def write(n):\n    open("file", "w").write(str(n))\n    return open("file").read()';
    const first = await http.submit(agent.id, await http.register('remove', remove), [[]]);
    const later = await http.submit(agent.id, await http.register('write', write), [[1], [2], [3]]);
    expect(await http.value(first.taskIds[0] ?? '')).toBe('gone');
    expect(await Promise.all(later.taskIds.map((id) => http.value(id)))).toEqual(['1', '2', '3']);
  } finally {
    await agent.stop();
  }
});

test('an agent whose Python lacks dill says so in its status, and its tasks wait until it can run them', async () => {
  const venv = mkdtempSync(join(tmpdir(), 'funcx-bare-python-'));
  expect(spawnSync('python3', ['-m', 'venv', '--without-pip', venv], { stdio: 'inherit' }).status).toBe(0);
  const agent = new Agent('bare', { FUNCX_WORKERS: '1' });
  const online = agent.start({ FUNCX_PYTHON: join(venv, 'bin', 'python') });
  online.catch(() => undefined); // the agent is stopped before it is online
  const [statusFile, idFile] = ['status.json', 'endpoint.json'].map((name) => join(agent.dir, name)) as [string, string];
  await until('the agent is registered', () => existsSync(idFile));
  await until(
    'the agent says what is missing',
    () => existsSync(statusFile) && readFileSync(statusFile, 'utf8').includes('dill'),
  );
  expect((await http.ok('GET', `/v2/endpoints/${agent.id}/status`)).status).toBe('offline');
  const add = await http.register('add', 'def add(a, b):\n    return a + b');
  const taskId = await http.submitOne(agent.id, add, [1, 2]);
  await agent.stop();
  await agent.start();
  try {
    expect(await http.value(taskId)).toBe(3);
    expect(await http.task(taskId)).toMatchObject({ state: 'succeeded', attempt: 1 });
  } finally {
    await agent.stop();
    rmSync(venv, { recursive: true, force: true });
  }
});

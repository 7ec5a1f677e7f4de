import { readFileSync, statSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';

import { FreshCopy } from '../helpers/fresh-copy';
import { until } from '../helpers/until';

/** The tests share one copy and run in order. The system of the copy runs beside the system of the other tests. */
describe('up, status and down on a fresh copy', () => {
  const copy = new FreshCopy();
  const UP = ['run', 'up', '--', '--detach', '--private-ports'];

  afterAll(() => {
    copy.run('npm', ['run', 'down']);
    copy.remove();
  });

  test('Ctrl-C in the middle of the first up leaves nothing running', async () => {
    const { child, output } = copy.start('npm', ['run', 'up', '--', '--private-ports']);
    await until('the engines are being started', () => /postgres ready|rabbitmq ready|temporal ready/.test(output()), {
      deadlineMs: 200_000,
    });
    const gone = new Promise((resolve) => child.once('exit', resolve));
    if (child.pid === undefined) throw new Error('npm did not start');
    process.kill(-child.pid, 'SIGINT');
    await gone;
    await until('no process is left', () => copy.processes().length === 0);
  }, 300_000);

  test('the next up runs a first task and prints its greeting, its ID and every address', () => {
    const { status, output } = copy.run('npm', UP);
    expect({ status, output }).toMatchObject({ status: 0 });
    expect(output).toContain(`Hello from ${hostname()}`);
    expect(output).toMatch(/task [0-9a-f-]{36}/);
    for (const word of ['API', 'Temporal UI', 'RabbitMQ management', 'Endpoint', 'Logs', 'funcx env'])
      expect(output).toContain(word);
  }, 300_000);

  test('status lists every part with its process, as JSON as well', () => {
    const { status, output } = copy.run('npm', ['run', '--silent', 'status', '--', '--json']);
    expect(status).toBe(0);
    const { services } = JSON.parse(output) as { services: { name: string; pid: number; healthy: boolean; external: boolean }[] };
    expect(services.map((service) => service.name).sort()).toEqual([
      'api',
      'endpoint',
      'postgres',
      'rabbitmq',
      'temporal',
      'workers',
    ]);
    for (const service of services) expect(service).toMatchObject({ healthy: true, external: false, pid: expect.any(Number) });
  });

  test('the secret of the first identity is in a file that only its owner reads', () => {
    const file = join(copy.dataDir, 'secrets', 'identity.json');
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(JSON.parse(readFileSync(file, 'utf8'))).toMatchObject({
      client_id: expect.any(String),
      client_secret: expect.any(String),
    });
  });

  test('a second up reports that the system already runs and changes nothing', () => {
    const before = copy.run('npm', ['run', '--silent', 'status', '--', '--json']).output;
    const { status, output } = copy.run('npm', UP);
    expect(status).toBe(0);
    expect(output).toMatch(/already running/);
    expect(copy.run('npm', ['run', '--silent', 'status', '--', '--json']).output).toBe(before);
  });

  test('down stops every process, and the next up keeps the identity and runs tasks', async () => {
    const addOnLocal = (): string =>
      copy.run('./bin/funcx', ['run', 'test/fixtures/functions.py:add', '--endpoint', 'local', '--args', '[40, 2]']).output;
    expect(addOnLocal()).toContain('42');
    const identity = readFileSync(join(copy.dataDir, 'secrets', 'identity.json'), 'utf8');
    expect(copy.run('npm', ['run', 'down']).status).toBe(0);
    await until('no process is left', () => copy.processes().length === 0);
    expect(copy.run('npm', ['run', '--silent', 'status']).status).not.toBe(0);

    expect(copy.run('npm', UP)).toMatchObject({ status: 0 });
    expect(readFileSync(join(copy.dataDir, 'secrets', 'identity.json'), 'utf8')).toBe(identity);
    expect(addOnLocal()).toContain('42');
    expect(copy.run('npm', ['run', 'down']).status).toBe(0);
    await until('no process is left after the second down', () => copy.processes().length === 0);
  }, 240_000);
});

import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { Client, Connection } from '@temporalio/client';

import { authorizationOf } from '../../local/engines/temporal-access';
import { readJson } from '../../local/machine/files';
import { layoutOf } from '../../local/machine/layout';
import { readState, type SystemState } from '../../local/setup/state';
import { NO_OWN_LOOPBACK, skipReason } from '../helpers/conditions';

/** What another program of the same machine reaches of a system that runs on a shared host. */

const ROOT = join(__dirname, '..', '..');
const ASK_MS = 3_000;
const isRoot = process.getuid?.() === 0;
const base = mkdtempSync(join(tmpdir(), 'funcx-shared-'));
chmodSync(base, 0o755); // one test reads a file there as an ordinary user
const dataDir = join(base, 'data');

function funcx(args: string[], wrapper: string[] = []): { status: number | null; output: string } {
  const [command = '', ...rest] = [...wrapper, process.execPath, join(ROOT, 'bin', 'funcx'), ...args, '--data-dir', dataDir];
  const { status, stdout, stderr } = spawnSync(command, rest, { encoding: 'utf8', cwd: ROOT });
  return { status, output: stdout + stderr };
}
const up = (...args: string[]): string[] => ['up', '--detach', '--private-ports', ...args];

/** Ports of loopback where a process of this system listens. */
function listeningPorts(): number[] {
  const run = (name: string): unknown => readJson(join(dataDir, 'run', name));
  const recorded = [...(run('processes.json') as { pid: number }[]), run('supervisor.json') as { pid: number }];
  const leaders = new Set(recorded.map(({ pid }) => pid));
  const sockets = new Set<string>();
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      const group = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[2]);
      if (!leaders.has(group)) continue;
      for (const fd of readdirSync(`/proc/${pid}/fd`)) sockets.add(readlinkSync(`/proc/${pid}/fd/${fd}`));
    } catch {
      // it ended meanwhile
    }
  }
  const lines = ['tcp', 'tcp6'].flatMap((table) => readFileSync(`/proc/net/${table}`, 'utf8').trim().split('\n').slice(1));
  const LISTEN = '0A';
  const open = lines
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[3] === LISTEN && sockets.has(`socket:[${fields[9]}]`));
  return [...new Set(open.map((fields) => parseInt(fields[1]?.split(':')[1] ?? '', 16)))];
}

async function askGrpc(port: number, tls?: { serverRootCACertificate: Buffer }): Promise<unknown> {
  const connection = await Connection.connect({
    address: `127.0.0.1:${port}`,
    connectTimeout: ASK_MS,
    ...(tls ? { tls: { ...tls, serverNameOverride: 'localhost' } } : {}),
  });
  await connection.close();
  return 'connected';
}

async function askUi(port: number, headers: Record<string, string> = {}): Promise<string> {
  const url = `http://127.0.0.1:${port}/api/v1/namespaces/default/workflows`;
  const answer = await fetch(url, { headers, signal: AbortSignal.timeout(ASK_MS) });
  return `${answer.status} ${await answer.text()}`;
}

const title = `a system on a shared host${skipReason(NO_OWN_LOOPBACK)}`;
(NO_OWN_LOOPBACK === undefined ? describe : describe.skip)(title, () => {
  let state: SystemState;
  let access: NonNullable<SystemState['temporal_access']>;

  beforeAll(() => {
    const { status, output } = funcx(up('--shared-host'));
    expect(status === 0 ? '' : output).toBe('');
    expect(output).not.toContain('it has no login');
    const read = readState(layoutOf(dataDir));
    if (!read?.temporal_access) throw new Error('there is no access to Temporal in the state');
    [state, access] = [read, read.temporal_access];
  }, 200_000);

  afterAll(() => {
    funcx(['down']);
    rmSync(base, { recursive: true, force: true });
  }, 100_000);

  test('answers neither the gRPC nor the UI of Temporal to a program without its files, at any of its ports', async () => {
    const ports = listeningPorts();
    expect(ports).toEqual(expect.arrayContaining([state.ports.temporal, state.ports.temporalUi, state.ports.api]));
    const authority = { serverRootCACertificate: readFileSync(access.ca_file) };
    const attack = async (port: number): Promise<void> => {
      await expect(askGrpc(port)).rejects.toThrow();
      await expect(askGrpc(port, authority)).rejects.toThrow();
      expect(await askUi(port).catch(() => 'refused')).not.toMatch(/^200|executions/);
    };
    await Promise.all(ports.map(attack));
    expect(await askUi(state.ports.temporalUi)).toMatch(/^401/);
  }, 120_000);

  test('keeps the files with which one gets in to its user', () => {
    for (const file of [access.key_file, access.ui_password_file]) expect(statSync(file).mode & 0o777).toBe(0o600);
  });

  test('lets in who has them, and other pages of the browser may change nothing', async () => {
    const authorization = authorizationOf(access.ui_password_file);
    expect(await askUi(state.ports.temporalUi, { authorization })).toMatch(/^200 [^]*executions/);
    const foreign = await fetch(`http://127.0.0.1:${state.ports.temporalUi}/api/v1/namespaces/default/workflows/x/terminate`, {
      method: 'POST',
      headers: { authorization, 'sec-fetch-site': 'same-site' },
    });
    expect(foreign.status).toBe(403);
    const { output } = funcx(['env', '--json']);
    const env = JSON.parse(output) as Record<string, string>;
    const file = (name: string): Buffer => readFileSync(env[name] ?? '');
    const connection = await Connection.connect({
      address: env.TEMPORAL_ADDRESS,
      tls: {
        serverNameOverride: env.TEMPORAL_TLS_SERVER_NAME,
        serverRootCACertificate: file('TEMPORAL_TLS_SERVER_CA_CERT_PATH'),
        clientCertPair: { crt: file('TEMPORAL_TLS_CLIENT_CERT_PATH'), key: file('TEMPORAL_TLS_CLIENT_KEY_PATH') },
      },
    });
    expect((await new Client({ connection }).workflow.count()).count).toBeGreaterThan(0);
    await connection.close();
  }, 60_000);

  test('runs calls, and is healthy', () => {
    writeFileSync(join(base, 'add.py'), 'def add(a, b):\n    return a + b\n');
    const { output } = funcx(['run', `${join(base, 'add.py')}:add`, '--endpoint', 'local', '--args', '[40, 2]']);
    expect(output).toContain('42');
    expect(funcx(['status']).status).toBe(0);
  }, 60_000);

  test('cannot be started where the kernel allows no network namespace, and says so', () => {
    expect(funcx(['down']).status).toBe(0);
    const none = 'echo 0 > /proc/sys/user/max_net_namespaces && exec "$@"';
    const { status, output } = funcx(up('--shared-host'), ['unshare', '-r', 'sh', '-c', none, 'sh']);
    expect(status).toBe(1);
    expect(output).toContain('--shared-host runs Temporal in a network namespace, but the kernel allows no network namespace');
    expect(output).toContain('TEMPORAL_ADDRESS');
  }, 60_000);

  const notRoot = isRoot ? undefined : 'only root can try it as another user';
  (isRoot ? test : test.skip)(`an ordinary user may have the namespace too${skipReason(notRoot)}`, () => {
    const script = join(base, 'own-network.py');
    writeFileSync(script, readFileSync(join(ROOT, 'local', 'engines', 'own-network.py')), { mode: 0o644 });
    const look = ['sh', '-c', 'id -u; tail -n +3 /proc/net/dev | wc -l'];
    const { stdout, stderr } = spawnSync('/usr/bin/python3', ['-I', script, '', ...look], {
      encoding: 'utf8',
      uid: 65_534,
      gid: 65_534,
      cwd: '/',
      input: '',
    });
    expect({ stdout, stderr }).toEqual({ stdout: '65534\n1\n', stderr: '' });
  });
});

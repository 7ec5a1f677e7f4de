import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { layoutOf, makeFolders } from '../../local/machine/layout';
import { anyFreePort } from '../../local/machine/ports';
import { ManagedProcess } from '../../local/processes/managed-process';
import { ProcessRegistry } from '../../local/processes/process-registry';
import { HANDS_OVER, SERVES, SUCCESSOR_SERVES } from '../../contracts/names';
import { until } from '../helpers/until';

/** Replicas of one service at one port, under a supervisor: a small server that speaks the same protocol as `api`. */

const SERVER = `
const server = require('node:http').createServer((_, response) => response.end(String(process.pid)));
server.listen(Number(process.env.PORT), '127.0.0.1', () => process.send('${SERVES}'));
process.on('message', (message) => message === '${SUCCESSOR_SERVES}' && server.close(() => process.exit(0)));
process.on('SIGTERM', () => process.send('${HANDS_OVER}'));
`;
const WITHIN_MS = 30_000;

let dir: string;
let port: number;
let running: ManagedProcess[];
let readyWithoutProcess: string[];
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'funcx-replicas-'));
  writeFileSync(join(dir, 'server.js'), SERVER);
  port = await anyFreePort(new Set());
  running = [];
  readyWithoutProcess = [];
});
afterEach(async () => {
  await Promise.all(running.map((one) => one.stop()));
  rmSync(dir, { recursive: true, force: true });
}, 60_000);

async function start(name: string): Promise<ManagedProcess> {
  const layout = layoutOf(dir);
  makeFolders(layout);
  const managed: ManagedProcess = new ManagedProcess({
    name,
    program: { command: process.execPath, args: [join(dir, 'server.js')], env: { ...process.env, PORT: String(port) }, cwd: dir },
    log: join(dir, `${name}.log`),
    isReady: 'says so',
    readyWithinMs: WITHIN_MS,
    stopWithinMs: WITHIN_MS,
    registry: new ProcessRegistry(layout),
    say: () => undefined,
    onChange: () => {
      if (managed.state === 'ready' && managed.identity === undefined) readyWithoutProcess.push(name);
    },
  });
  running.push(managed);
  await managed.start(new AbortController().signal);
  return managed;
}

/** A connection of its own for each request. */
function ask(): Promise<number> {
  return new Promise((resolve, reject) => {
    const asked = request({ port, host: '127.0.0.1', agent: false }, (response) => {
      response.setEncoding('utf8').once('data', (text: string) => resolve(Number(text)));
    });
    asked.once('error', reject);
    asked.end();
  });
}

const pidOf = ({ identity }: ManagedProcess): number => identity?.pid ?? 0;

test('a restart of the only process refuses no connection: its successor serves before it ends', async () => {
  const managed = await start('only');
  const before = pidOf(managed);
  process.kill(before, 'SIGTERM');
  await until(
    'the successor answers',
    async () => {
      expect(await ask()).toBeGreaterThan(0);
      return pidOf(managed) !== before && managed.state === 'ready' && (await ask()) === pidOf(managed);
    },
    { deadlineMs: WITHIN_MS, everyMs: 5 },
  );
  await until('the predecessor ends', () => !exists(before));
}, 60_000);

test('while one of two processes is killed, the other one answers, and the killed one is started again', async () => {
  const [one, other] = [await start('one'), await start('two')];
  const before = pidOf(one);
  process.kill(before, 'SIGKILL');
  await until('the killed process is gone', () => !exists(before));
  expect(await ask()).toBe(pidOf(other));
  await until('it serves again', () => pidOf(one) !== before && one.state === 'ready', { deadlineMs: WITHIN_MS });
  expect(readyWithoutProcess).toEqual([]); // what `status` and the state file say in between
}, 60_000);

test('a stop ends processes without a successor', async () => {
  const managed = await start('only');
  const pid = pidOf(managed);
  await managed.stop();
  expect(managed.state).toBe('stopped');
  expect(exists(pid)).toBe(false);
  await expect(ask()).rejects.toThrow(/ECONNREFUSED/);
}, 60_000);

function exists(pid: number): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

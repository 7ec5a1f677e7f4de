import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { clientEnv } from './funcx-1.0';
import { finished, type Finished } from './own-loopback';
import { ensureVenv } from './python-venv';
import { admin, Http, isAlive, state, type Credentials } from './system';
import { until } from './until';

/** The released agent of funcX 1.0.4, unmodified, with a configuration file as its users write it. */

/** Later releases of the pinned packages do not work with this agent on Python 3.11; `six` is a requirement that it forgot. */
export const agent104 = (): Promise<string> =>
  ensureVenv('funcx-endpoint-1.0.4', ['funcx==1.0.4', 'funcx-endpoint==1.0.4', 'parsl==2022.10.31', 'typeguard==2.13.3', 'six']);

/** The first two lines keep the daemon of Python 3.10 and later from closing its own result pipe. */
const configFile = (apiUrl: string, wsUrl: string): string => `import gc, os
os.register_at_fork(before=gc.collect)

from parsl.providers import LocalProvider
from funcx_endpoint.endpoint.utils.config import Config
from funcx_endpoint.executors import HighThroughputExecutor

config = Config(
    funcx_service_address="${apiUrl}/v2",
    results_ws_uri="${wsUrl}/v2",
    executors=[HighThroughputExecutor(
        provider=LocalProvider(init_blocks=1, min_blocks=1, max_blocks=1),
        max_workers_per_node=1, heartbeat_period=2, heartbeat_threshold=10)],
)
meta = {"name": "ep1", "public": False}
`;

export class ReleasedAgent {
  readonly env: NodeJS.ProcessEnv;
  readonly dir: string;

  constructor(
    readonly bin: string,
    readonly id: string,
    readonly credentials: Credentials = admin(),
    addresses: { apiUrl: string; wsUrl: string } = { apiUrl: state().api_url, wsUrl: state().ws_url },
  ) {
    this.env = {
      ...clientEnv(credentials),
      GLOBUS_SDK_SERVICE_URL_AUTH: `${addresses.apiUrl}/`,
      PATH: `${bin}:${process.env.PATH}`, // it starts its managers and workers by name
    };
    this.dir = join(this.env.HOME ?? '', '.funcx', 'ep1');
    mkdirSync(this.dir, { recursive: true });
    writeFileSync(join(this.dir, 'config.py'), configFile(addresses.apiUrl, addresses.wsUrl));
  }

  /** `funcx-endpoint start`: returns when its daemon is on its own. */
  command(...args: string[]): Promise<Finished> {
    const child = spawn(join(this.bin, 'funcx-endpoint'), args, { env: this.env, stdio: ['ignore', 'pipe', 'pipe'] });
    return finished(child, 60_000);
  }

  async start(): Promise<this> {
    const { status, stdout, stderr } = await this.command('start', 'ep1', '--endpoint-uuid', this.id);
    if (status !== 0) throw new Error(`the agent did not start: ${stdout}${stderr}\n${this.log()}`);
    return this;
  }

  async untilOnline(http = new Http(this.credentials)): Promise<this> {
    await until(`the released agent of ${this.id} is online`, async () => {
      const { body } = await http.request('GET', `/v2/endpoints/${this.id}/status`);
      return body.status === 'online' ? true : undefined;
    });
    return this;
  }

  get pid(): number | undefined {
    const file = join(this.dir, 'daemon.pid');
    return existsSync(file) ? Number(readFileSync(file, 'utf8')) : undefined;
  }

  /** `funcx-endpoint stop`, and until its daemon is gone. Its workers end by themselves. */
  async stop(): Promise<void> {
    const pid = this.pid;
    if (pid === undefined) return;
    await this.command('stop', 'ep1');
    await until(`daemon ${pid} of the released agent is gone`, () => !isAlive(pid));
  }

  /** The daemon and everything it started, at once. */
  async kill(): Promise<void> {
    const pid = this.pid;
    if (pid === undefined) throw new Error('the agent does not run');
    const family = familyOf(pid);
    for (const member of family) process.kill(member, 'SIGKILL');
    await until(`daemon ${pid} of the released agent is gone`, () => !family.some(isAlive));
  }

  /** To the daemon and everything it started. */
  signal(signal: NodeJS.Signals): void {
    const pid = this.pid;
    if (pid === undefined) throw new Error('the agent does not run');
    for (const member of familyOf(pid)) process.kill(member, signal);
  }

  log(): string {
    const file = join(this.dir, 'endpoint.log');
    return existsSync(file) ? readFileSync(file, 'utf8') : '';
  }
}

/** A process and its descendants. */
function familyOf(pid: number): number[] {
  const { stdout } = spawnSync('ps', ['-e', '-o', 'pid=,ppid='], { encoding: 'utf8' });
  const parents = stdout
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number));
  const family = [pid];
  for (const member of family) for (const [child, parent] of parents) if (parent === member && child) family.push(child);
  return family;
}

import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { SystemState } from '../../local/setup/state';
import { NO_OWN_LOOPBACK, testUnless } from '../helpers/conditions';
import { clientEnv, sdk104, TUTORIAL_ENDPOINT, usualPorts } from '../helpers/funcx-1.0';
import { agent104, ReleasedAgent } from '../helpers/funcx-1.0-agent';
import { finished, OwnLoopback } from '../helpers/own-loopback';
import { slideProgram } from '../helpers/slide';
import { funcx, Http, state, type Credentials } from '../helpers/system';

/**
 * The program of the slide as it was shown, with the released client. Inside its network namespace localhost has the ports
 * 5000 and 6000, which that client has hard-wired, and nothing else.
 */
const ROOT = join(__dirname, '..', '..');
const HELLO = { status: 0, stdout: expect.stringMatching(/^Hello from \S+\n$/), stderr: '' };

/** A system of its own: the tutorial endpoint of the shared one is served by our agent. */
const local = async (...args: string[]): Promise<void> => {
  const { FUNCX_TEST_DATA_DIR: _dir, ...env } = process.env;
  const child = spawn(process.execPath, [join(ROOT, 'dist', 'local', 'main.js'), ...args], {
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const { status, stdout, stderr } = await finished(child, 120_000);
  if (status !== 0) throw new Error(stdout + stderr);
};

testUnless(NO_OWN_LOOPBACK)(
  'the slide of 2022 prints its line when our agent serves the tutorial endpoint',
  async () => {
    const sdk = await sdk104();
    const { kind } = (await new Http().ok('GET', `/v2/endpoints/${TUTORIAL_ENDPOINT}`)) as { kind: string };
    expect(kind).toBe('agent');
    const loopback = await usualPorts();
    try {
      expect(await loopback.run(join(sdk, 'python'), [slideProgram()], clientEnv(), 90_000)).toEqual(HELLO);
    } finally {
      await loopback.close();
    }
  },
  300_000,
);

testUnless(NO_OWN_LOOPBACK)(
  'with what "funcx env --client funcx-1.0" prints, and nothing else set, the released client runs',
  async () => {
    const sdk = await sdk104();
    const { stdout: printed, status } = funcx(['env', '--client', 'funcx-1.0']);
    expect(status).toBe(0);
    const { api, ws } = state().ports;
    const loopback = await OwnLoopback.open({ 5000: api, 6000: ws, [api]: api });
    try {
      const env = { PATH: process.env.PATH, HOME: mkdtempSync(join(tmpdir(), 'funcx-home-')) };
      const shell = ['-c', 'eval "$1"; exec "$2" "$3"', 'sh', printed, join(sdk, 'python'), slideProgram()];
      expect(await loopback.run('sh', shell, env, 90_000)).toEqual(HELLO);
    } finally {
      await loopback.close();
    }
  },
  300_000,
);

testUnless(NO_OWN_LOOPBACK)(
  'the slide of 2022 prints its line when the released agent serves the tutorial endpoint',
  async () => {
    const [sdk, bin] = [await sdk104(), await agent104()];
    const dir = mkdtempSync(join(tmpdir(), 'funcx-slide-'));
    await local('up', '--detach', '--private-ports', '--no-endpoint', '--data-dir', dir);
    let agent: ReleasedAgent | undefined;
    let loopback: OwnLoopback | undefined;
    try {
      const system = JSON.parse(readFileSync(join(dir, 'run', 'state.json'), 'utf8')) as SystemState;
      const credentials = JSON.parse(readFileSync(system.identity_file, 'utf8')) as Credentials;
      agent = new ReleasedAgent(bin, TUTORIAL_ENDPOINT, credentials, { apiUrl: system.api_url, wsUrl: system.ws_url });
      await agent.start();
      loopback = await OwnLoopback.open({ 5000: system.ports.api, 6000: system.ports.ws });
      expect(await loopback.run(join(sdk, 'python'), [slideProgram()], clientEnv(credentials), 90_000)).toEqual(HELLO);
    } finally {
      await loopback?.close();
      await agent?.stop();
      await local('down', '--data-dir', dir);
    }
  },
  600_000,
);

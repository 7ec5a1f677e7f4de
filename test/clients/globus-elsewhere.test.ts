import { spawn, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';

import { freePort } from '../helpers/own-api';
import { globusVenv, StockClient } from '../helpers/stock-globus';
import { admin, funcx, localEndpoint, state } from '../helpers/system';
import { authorityFile, certificateOfSystem, openTlsFront, type TlsFront } from '../helpers/tls-front';
import { until } from '../helpers/until';

/** A service that is not on the client's machine: reached through `funcx connect`, or as a proxy, both over TLS. */

const ROOT = join(__dirname, '..', '..');

let front: TlsFront;
let frontUrl: string;
let bin: string;

beforeAll(async () => {
  bin = await globusVenv();
  front = await openTlsFront(certificateOfSystem(), state().ports.api);
  frontUrl = `https://localhost:${front.port}`;
}, 300_000);
afterAll(() => front?.close());

describe('a service elsewhere', () => {
  test('is reached through funcx connect, which verifies its certificate', async () => {
    const port = await freePort();
    const child = startConnect([frontUrl, '--port', String(port), '--ca', authorityFile()]);
    try {
      await until('the forwarder answers', async () => (await fetch(`http://localhost:${port}/healthz`)).ok);
      const client = new StockClient(bin, admin(), `http://localhost:${port}`);
      const { values } = await client.script('many.py', [localEndpoint(), '10', '0']);
      expect(values).toEqual(Array.from({ length: 10 }, (_, i) => i * i));
    } finally {
      await end(child);
    }
  });

  test('is refused by funcx connect in one sentence when its authority is not known', async () => {
    const child = startConnect([frontUrl, '--port', String(await freePort())], { FUNCX_CA: '' });
    let stderr = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    expect(await new Promise((resolve) => child.once('close', resolve))).toBe(1);
    expect(stderr).toMatch(/cannot be reached .*give its authority with --ca\.\n$/);
  });

  test('is not reached in clear by funcx connect', () => {
    const { status, stderr } = funcx(['connect', 'http://funcx.example']);
    expect(status).toBe(1);
    expect(stderr).toContain('would carry tokens in clear');
  });

  test('is reached as an https proxy, with environment variables alone', async () => {
    const client = new StockClient(bin, admin(), frontUrl);
    // This address and the SDK's fixed one, localhost:5000, are resolved behind the proxy.
    const env = { GLOBUS_SDK_SERVICE_URL_AUTH: 'http://localhost:5000/' };
    const { values } = await client.script('many.py', [localEndpoint(), '10', '0'], { env });
    expect(values).toEqual(Array.from({ length: 10 }, (_, i) => i * i));
  });
});

function startConnect(args: readonly string[], env: Record<string, string> = {}): ChildProcess {
  return spawn(join(ROOT, 'bin', 'funcx'), ['connect', ...args], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
}

async function end(child: ChildProcess): Promise<void> {
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  await gone;
}

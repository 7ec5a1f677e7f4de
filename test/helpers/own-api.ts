import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, openSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { anyFreePort } from '../../local/machine/ports';
import { serviceEnv } from './system';
import { until } from './until';

/** Another API process beside that of the system, for a test to kill: started again at once, without the test's variables. */
export interface OwnApi {
  url: string;
  /** How often it died. */
  deaths(): number;
  close(): Promise<void>;
}

const MAIN = join(__dirname, '..', '..', 'dist', 'api', 'main.js');

export async function ownApi(extra: Record<string, string> = {}): Promise<OwnApi> {
  const port = await freePort();
  const wsPort = await freePort();
  const url = `http://localhost:${port}`;
  const log = openSync(join(mkdtempSync(join(tmpdir(), 'funcx-own-api-')), 'api.log'), 'a');
  let deaths = 0;
  let isClosed = false;
  let child: ChildProcess;

  function start(env: Record<string, string>): void {
    child = spawn(process.execPath, [MAIN], {
      env: {
        ...process.env,
        ...serviceEnv('api'),
        API_PORT: String(port),
        WS_PORT: String(wsPort),
        API_PUBLIC_URL: url,
        LOG_LEVEL: 'error',
        FUNCX_STOP_DELAY_S: '0',
        FUNCX_TEST_BUILD: '1', // without it, a fail point does nothing
        ...env,
      },
      stdio: ['ignore', log, log],
    });
    child.once('exit', () => {
      if (isClosed) return;
      deaths++;
      start({});
    });
  }

  async function close(): Promise<void> {
    isClosed = true;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    await gone;
  }

  start(extra);
  try {
    await until('the API of the test answers', async () => (await fetch(`${url}/healthz`)).ok);
  } catch (error) {
    await close(); // or it would be started again for ever
    throw error;
  }
  return { url, deaths: () => deaths, close };
}

export const freePort = (): Promise<number> => anyFreePort(new Set());

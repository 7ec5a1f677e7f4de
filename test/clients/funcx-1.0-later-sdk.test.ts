import { spawn } from 'node:child_process';
import { join } from 'node:path';

import { clientEnv, scriptFile } from '../helpers/funcx-1.0';
import { finished } from '../helpers/own-loopback';
import { ensureVenv } from '../helpers/python-venv';
import { state } from '../helpers/system';

test('SDK 1.0.13 gets its results over AMQP: values, and the traceback of a function that raises', async () => {
  const bin = await ensureVenv('funcx-sdk-1.0.13', ['funcx==1.0.13', 'typeguard<3']);
  const script = scriptFile(`
def add(a, b):
    return a + b
def wrong():
    raise ValueError("no")
executor = FuncXExecutor(endpoint_id=endpoint, funcx_client=fxc)
futures = [executor.submit(add, i, b=1) for i in range(50)]
print(sum(f.result(timeout=60) == i + 1 for i, f in enumerate(futures)))
print("ValueError: no" in str(executor.submit(wrong).exception(timeout=60)))`);
  const child = spawn(join(bin, 'python'), [script], {
    env: { ...clientEnv(), GLOBUS_SDK_SERVICE_URL_AUTH: `${state().api_url}/` },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const { stdout, stderr } = await finished(child, 100_000);
  expect({ stdout, stderr }).toEqual({ stdout: '50\nTrue\n', stderr: expect.anything() });
}, 300_000);

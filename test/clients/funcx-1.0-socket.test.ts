import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';

import { ApiProcess } from '../helpers/api-process';
import { clientEnv, scriptFile, sdk104 } from '../helpers/funcx-1.0';
import { finished } from '../helpers/own-loopback';
import { funcx, isAlive, pidOf, state } from '../helpers/system';
import { until } from '../helpers/until';

const TASKS = 500;
const DROPS = 5;

/** Also counts the messages that the client's library hands over: the client itself does not mind a repeated one. */
const scriptOf = (tasks: number): string => `
import websockets.legacy.protocol
messages = []
receive = websockets.legacy.protocol.WebSocketCommonProtocol.recv
async def counted(self):
    message = await receive(self)
    messages.append(json.loads(message)["task_id"])
    return message
websockets.legacy.protocol.WebSocketCommonProtocol.recv = counted

def nap(i):
    import time
    time.sleep(0.08)
    return i * i
executor = FuncXExecutor(fxc)
futures = [executor.submit(nap, i, endpoint_id=endpoint) for i in range(${tasks})]
for future in futures:
    future.add_done_callback(lambda f: print("result", flush=True))
while executor.task_count_submitted < ${tasks}:
    time.sleep(0.05)
print("submitted", flush=True)
print("right", sum(f.result(timeout=120) == i * i for i, f in enumerate(futures)))
print("messages", len(messages), "different", len(set(messages)))`;

test(`${TASKS} results arrive once each while the API process is replaced ${DROPS} times`, async () => {
  const bin = await sdk104();
  const api = await ApiProcess.start();
  try {
    const drops = Array.from({ length: DROPS }, () => randomInt(1, TASKS - 100)).sort((x, y) => x - y);
    let replaced = 0;
    let replacing = Promise.resolve();
    const said = await listen(bin, TASKS, api.apiUrl, api.wsUrl, (received) => {
      while (drops[0] !== undefined && received >= drops[0]) {
        drops.shift();
        replacing = replacing.then(() => api.replace()).then(() => void replaced++);
      }
    });
    await replacing;
    expect(said).toMatch(new RegExp(`^right ${TASKS}\nmessages ${TASKS} different ${TASKS}\n`));
    expect(replaced).toBe(DROPS);
  } finally {
    await api.stop();
  }
}, 300_000);

test('a supervised API that is told to stop has a successor before its clients go there, and nothing is missed', async () => {
  const bin = await sdk104();
  const pid = pidOf('api');
  let toldAt = 0;
  const said = await listen(bin, 100, state().api_url, state().ws_url, (received) => {
    if (toldAt > 0 || received < 20) return;
    toldAt = Date.now();
    process.kill(pid, 'SIGTERM');
  });
  expect(said).toMatch(/^right 100\nmessages 100 different 100\n/);
  await until('the old process is gone', () => !isAlive(pid));
  await until('every part is healthy', () => funcx(['status']).status === 0, { everyMs: 500 });
  expect(pidOf('api')).not.toBe(pid);
}, 180_000);

/** Runs the script; `onReceived` is told how many results the client has, once all are submitted. */
async function listen(
  bin: string,
  tasks: number,
  apiUrl: string,
  wsUrl: string,
  onReceived: (received: number) => void,
): Promise<string> {
  const child = spawn(`${bin}/python`, [scriptFile(scriptOf(tasks), apiUrl, wsUrl)], {
    env: { ...clientEnv(), GLOBUS_SDK_SERVICE_URL_AUTH: `${apiUrl}/` },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = finished(child, 150_000);
  let received = 0;
  let isSubmitted = false;
  child.stdout.on('data', (data: Buffer) => {
    received += data.toString().split('result\n').length - 1;
    // A client that submits gives up when nobody answers for some seconds; here only the results are the subject.
    isSubmitted ||= data.toString().includes('submitted');
    if (isSubmitted) onReceived(received);
  });
  const { stdout, stderr } = await ended;
  return stdout.replace(/result\n|submitted\n/g, '') + stderr.slice(-2_000);
}

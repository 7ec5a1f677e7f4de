import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';

import { ApiProcess } from '../helpers/api-process';
import { clientEnv, scriptFile, sdk104 } from '../helpers/funcx-1.0';
import { finished } from '../helpers/own-loopback';

const TASKS = 500;
const DROPS = 5;

/** Also counts the messages that the client's library hands over: the client itself does not mind a repeated one. */
const SCRIPT = `
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
futures = [executor.submit(nap, i, endpoint_id=endpoint) for i in range(${TASKS})]
for future in futures:
    future.add_done_callback(lambda f: print("result", flush=True))
while executor.task_count_submitted < ${TASKS}:
    time.sleep(0.05)
print("submitted", flush=True)
print("right", sum(f.result(timeout=120) == i * i for i, f in enumerate(futures)))
print("messages", len(messages), "different", len(set(messages)))`;

test(`${TASKS} results arrive once each while the API process is replaced ${DROPS} times`, async () => {
  const bin = await sdk104();
  const api = await ApiProcess.start();
  try {
    const env = { ...clientEnv(), GLOBUS_SDK_SERVICE_URL_AUTH: `${api.apiUrl}/` };
    const child = spawn(`${bin}/python`, [scriptFile(SCRIPT, api.apiUrl, api.wsUrl)], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    const ended = finished(child, 150_000);
    const drops = Array.from({ length: DROPS }, () => randomInt(1, TASKS - 100)).sort((a, b) => a - b);
    let received = 0;
    let isSubmitted = false;
    let replaced = 0;
    let replacing = Promise.resolve();
    child.stdout.on('data', (data: Buffer) => {
      received += data.toString().split('result\n').length - 1;
      // A client that submits gives up when nobody answers for some seconds; here only the results are the subject.
      isSubmitted ||= data.toString().includes('submitted');
      while (isSubmitted && drops[0] !== undefined && received >= drops[0]) {
        drops.shift();
        replacing = replacing.then(() => api.replace()).then(() => void replaced++);
      }
    });
    const { stdout, stderr } = await ended;
    await replacing;
    expect(stdout.replace(/result\n|submitted\n/g, '') + stderr.slice(-2_000)).toMatch(
      new RegExp(`^right ${TASKS}\nmessages ${TASKS} different ${TASKS}\n`),
    );
    expect(replaced).toBe(DROPS);
  } finally {
    await api.stop();
  }
}, 300_000);

import { join } from 'node:path';

import { NO_OWN_LOOPBACK, testUnless } from '../helpers/conditions';
import { clientEnv, runScript, sdk104, usualPorts } from '../helpers/funcx-1.0';
import { slideProgram } from '../helpers/slide';
import { Http } from '../helpers/system';

// Its endpoint id and the client's addresses (localhost:5000 and :6000) are what they were in 2022.
testUnless(NO_OWN_LOOPBACK)(
  'the slide of 2022 prints its line, with the released client and no change',
  async () => {
    const bin = await sdk104();
    const loopback = await usualPorts();
    try {
      const { status, stdout, stderr } = await loopback.run(join(bin, 'python'), [slideProgram()], clientEnv());
      expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: expect.stringMatching(/^Hello from \S+\n$/), stderr: '' });
    } finally {
      await loopback.close();
    }
  },
  300_000,
);

const ROUNDS = 12;
/** Each round has an executor of its own. A second executor of a client would go on with the results of the first. */
const SHUTDOWNS = `
import threading, uuid, warnings
def square(x):
    return x * x
def ends(executor):
    shutdown = threading.Thread(target=executor.shutdown, daemon=True)
    shutdown.start()
    shutdown.join(10)
    return not shutdown.is_alive()
def at_once(executor):
    futures = [executor.submit(square, i, endpoint_id=endpoint) for i in range(5)]
    return [future.result(timeout=30) for future in futures]
def one_by_one(executor):
    return [executor.submit(square, i, endpoint_id=endpoint).result(timeout=30) for i in range(5)]
def alone(executor):
    return [executor.submit(square, 0, endpoint_id=endpoint).result(timeout=30)]
# At a later submit with an open connection, a second thread of the client dies at once, without effect.
threading.excepthook = lambda died: None
warnings.simplefilter("ignore")
for calls in (at_once, one_by_one, alone):
    right, ended = 0, 0
    for _ in range(${ROUNDS}):
        fxc.session_task_group_id = str(uuid.uuid4())
        executor = FuncXExecutor(fxc)
        values = calls(executor)
        right += values == [i * i for i in range(len(values))]
        ended += ends(executor)
    print(calls.__name__, right, ended)`;

test('an executor of the released client gets its results and shuts down, whatever it did', async () => {
  const { stdout, stderr } = await runScript(await sdk104(), SHUTDOWNS, { deadlineMs: 240_000 });
  const all = `${ROUNDS} ${ROUNDS}`;
  expect({ stdout, stderr }).toEqual({ stdout: `at_once ${all}\none_by_one ${all}\nalone ${all}\n`, stderr: '' });
}, 300_000);

test('a submit is answered after the connection of an executor has closed', async () => {
  const nobody = '00000000-0000-4000-8000-000000000000';
  const headers = { 'user-agent': 'globus-sdk-py-3.65.0/funcx-sdk-1.0.4' };
  const client = new Http();
  await client.token();
  const started = performance.now();
  const { status } = await client.request('POST', '/v2/submit', { tasks: [[nobody, nobody, '00\n']] }, headers);
  expect(status).toBe(207);
  expect(performance.now() - started).toBeGreaterThanOrEqual(19);
});

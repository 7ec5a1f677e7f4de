import { runScript, sdk104 } from '../helpers/funcx-1.0';
import { Http } from '../helpers/system';

/** What the released SDK 1.0.4 offers its users, against our own agent. */

let bin: string;
beforeAll(async () => void (bin = await sdk104()), 300_000);

/** Functions for the scripts: the client takes their source from a file. */
const FUNCTIONS = `
def add(a, b=1):
    return a + b
def wrong(x):
    raise ValueError("no " + str(x))
def nap(seconds):
    import time
    time.sleep(seconds)
    return seconds
def until(condition, deadline=30):
    end = time.time() + deadline
    while time.time() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    raise Exception("the deadline passed")
`;

async function lines(script: string, options: Parameters<typeof runScript>[2] = {}): Promise<string[]> {
  const { status, stdout, stderr } = await runScript(bin, FUNCTIONS + script, options);
  if (status !== 0) throw new Error(`the script ended with ${status}: ${stdout}${stderr}`);
  return stdout.trimEnd().split('\n');
}

test('the future of a function that raises has its traceback', async () => {
  const out = await lines(`
future = FuncXExecutor(fxc).submit(wrong, 7, endpoint_id=endpoint)
error = future.exception(timeout=30)
print(type(error).__name__)
print("ValueError: no 7" in str(error))`);
  expect(out).toEqual(['FuncxTaskExecutionFailed', 'True']);
});

test('run, get_task and get_result tell a pending task from a finished and a failed one', async () => {
  const out = await lines(`
from funcx.errors import TaskPending
slow = fxc.run(2, endpoint_id=endpoint, function_id=fxc.register_function(nap))
try:
    fxc.get_result(slow)
except Exception as error:
    print(type(error).__name__, fxc.get_task(slow)["pending"])
until(lambda: not fxc.get_task(slow)["pending"])
print(fxc.get_result(slow), fxc.get_result(slow))
bad = fxc.run(1, endpoint_id=endpoint, function_id=fxc.register_function(wrong))
def ended():
    try:
        return not fxc.get_task(bad)["pending"]
    except Exception as error:
        return error
print(type(until(ended)).__name__)
other = FuncXClient(**address)
print(other.get_result(slow))`);
  expect(out).toEqual(['TaskPending True', '2 2', 'FuncxTaskExecutionFailed', '2']);
});

test('a batch gives an id per call and get_batch_result their values; the group knows its tasks', async () => {
  const out = await lines(`
fn = fxc.register_function(add)
batch = fxc.create_batch()
for i in range(20):
    batch.add(i, b=100, endpoint_id=endpoint, function_id=fn)
ids = fxc.batch_run(batch)
done = until(lambda: (lambda r: r if all(not v["pending"] for v in r.values()) else None)(fxc.get_batch_result(ids)))
print([done[i]["result"] for i in ids] == [i + 100 for i in range(20)])
group = fxc.web_client.get_taskgroup_tasks(fxc.session_task_group_id)
print(group["taskgroup_id"] == fxc.session_task_group_id, sorted(t["id"] for t in group["tasks"]) == sorted(ids))
unknown = "00000000-0000-4000-8000-000000000000"
print(fxc.web_client.get_batch_status([unknown])["results"][unknown]["reason"])`);
  expect(out).toEqual(['True', 'True True', 'Unknown task id']);
});

test('errors have the classes and fields that the client knows', async () => {
  const out = await lines(`
fn = fxc.register_function(add)
nowhere = "00000000-0000-4000-8000-000000000000"
def say(call):
    try:
        call()
    except Exception as error:
        print(type(error).__name__, getattr(error, "http_status", ""), getattr(error, "code_name", ""))
say(lambda: fxc.run(1, endpoint_id=nowhere, function_id=fn))
say(lambda: fxc.run(1, endpoint_id=endpoint, function_id=nowhere))
say(lambda: fxc.get_task(nowhere))
say(lambda: fxc.get_endpoint_status(nowhere))
say(lambda: FuncXExecutor(FuncXClient(task_group_id=nowhere, **address)).reload_tasks())`);
  expect(out).toEqual([
    'EndpointNotFound  ',
    'FunctionNotFound  ',
    'FuncxAPIError 404 task_not_found',
    'FuncxAPIError 404 endpoint_not_found',
    'FuncxAPIError 404 task_group_not_found',
  ]);
});

test('one bad call of a batch does not keep the others from running', async () => {
  const out = await lines(`
fn = fxc.register_function(add)
nowhere = "00000000-0000-4000-8000-000000000000"
batch = fxc.create_batch()
batch.add(1, endpoint_id=endpoint, function_id=fn)
batch.add(2, endpoint_id=nowhere, function_id=fn)
answer = fxc.web_client.submit(batch.prepare())
print(answer.http_status, [r["status"] for r in answer["results"]], answer["results"][1]["code"])
good = answer["results"][0]["task_uuid"]
until(lambda: not fxc.get_task(good)["pending"])
print(fxc.get_result(good))`);
  expect(out).toEqual(["207 ['Success', 'Failed'] 4", '2']);
});

test('a list of allowed functions refuses the others, until it is empty', async () => {
  const out = await lines(`
allowed = fxc.register_function(add)
other = fxc.register_function(add)
print(fxc.add_to_whitelist(endpoint, [allowed])["status"], fxc.get_whitelist(endpoint)["result"] == [allowed])
try:
    try:
        fxc.run(1, endpoint_id=endpoint, function_id=other)
    except Exception as error:
        print(type(error).__name__)
    task = fxc.run(1, endpoint_id=endpoint, function_id=allowed)
finally:
    print(fxc.delete_from_whitelist(endpoint, allowed)[0]["result"] == allowed, fxc.get_whitelist(endpoint)["result"])
until(lambda: not fxc.get_task(task)["pending"])
print(fxc.get_result(task))`);
  expect(out).toEqual(['Success True', 'FunctionNotPermitted', 'True []', '2']);
});

test('another process takes a group over: reload_tasks has what was not delivered, the rest is read by its ids', async () => {
  const [group] = await lines(`
fn = fxc.register_function(nap)
batch = fxc.create_batch(create_websocket_queue=True)
for seconds in (0, 0.5, 1):
    batch.add(seconds, endpoint_id=endpoint, function_id=fn)
fxc.batch_run(batch)
print(fxc.session_task_group_id)`);
  const script = `
fxc = FuncXClient(task_group_id="${group}", **address)
futures = list(FuncXExecutor(fxc).reload_tasks())
print(sorted(f.result(timeout=30) for f in futures))
states = fxc.get_batch_result([f.task_id for f in futures])
print(sorted(s["result"] for s in states.values()))`;
  expect(await lines(script)).toEqual(['[0, 0.5, 1]', '[0, 0.5, 1]']);
});

test('somebody else can neither listen to a group nor use a private function', async () => {
  const http = new Http();
  const bob = (await http.ok('POST', '/v1/identities', { name: `bob-${Date.now()}` })) as {
    client_id: string;
    client_secret: string;
  };
  // An endpoint of bob's own: then only the function and the group can refuse him.
  const { endpoint_id: bobs } = await new Http(bob).ok('POST', '/v3/endpoints', {
    endpoint_name: 'bobs',
    metadata: { endpoint_version: '4.15.0' },
  });
  const [group, fn] = await lines(`
fn = fxc.register_function(add)
fxc.run(1, endpoint_id=endpoint, function_id=fn)
print(fxc.session_task_group_id)
print(fn)`);
  const out = await lines(
    `
import asyncio, websockets.client
async def listen():
    header = fxc.web_client.authorizer.get_authorization_header()
    async with websockets.client.connect(address["results_ws_uri"], extra_headers=[("Authorization", header)]) as ws:
        await ws.send("${group}")
        print("another identity" in json.loads(await ws.recv())["exception"])
asyncio.run(listen())
try:
    fxc.run(1, endpoint_id="${bobs}", function_id="${fn}")
except Exception as error:
    print(type(error).__name__)
try:
    FuncXClient(task_group_id="${group}", **address).run(1, endpoint_id="${bobs}", function_id=fxc.register_function(add))
except Exception as error:
    print(error.http_status, error.code_name)`,
    { credentials: bob },
  );
  expect(out).toEqual(['True', 'FunctionAccessForbidden', '403 task_group_access_forbidden']);
});

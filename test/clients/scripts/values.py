"""What a function gives, by every way to call it: printed as one JSON object, the same for every kind of endpoint."""

import json
import sys
import uuid

from globus_compute_sdk import Client, Executor, ShellFunction
from globus_compute_sdk.serialize import AllCodeStrategies, ComputeSerializer, JSONData

endpoint_id = sys.argv[1]


def add(a, b=0):
    return a + b


def plus(a, b):
    return a + b


def give(value):
    return value


def fail():
    raise ValueError("no é today")


def text_of(n):
    return "x" * n


def failure(future):
    try:
        return ["value", future.result(60)]
    except Exception as e:
        return [type(e).__name__, str(e)]


seen = {}
client = Client()
with Executor(endpoint_id=endpoint_id, client=client, api_burst_limit=8, api_burst_window_s=1) as ex:
    seen["add"] = ex.submit(add, 1, b=2).result(60)
    seen["dill"] = [type(v).__name__ for v in ex.submit(give, [(1,), {2}, b"3", 4j]).result(60)]
    seen["failure"] = failure(ex.submit(fail))
    seen["large"] = len(ex.submit(text_of, 7_000_000).result(90))
    seen["too_large"] = failure(ex.submit(text_of, 11_000_000))
    ex.result_serializers = [JSONData()]
    seen["json_result"] = ex.submit(give, {"a": [1, None, "é"]}).result(60)
    ex.result_serializers = None
    shell = ex.submit(ShellFunction("echo hello {name}; exit 3"), name="bob").result(60)
    seen["shell"] = [shell.returncode, shell.stdout]

    fid = ex.register_function(plus)
    seen["registered"] = ex.submit_to_registered_function(fid, args=(20,), kwargs={"b": 22}).result(60)
    source_id = client.register_source_code("def mul(a, b):\n    return a * b\n", "mul")
    seen["source"] = ex.submit_to_registered_function(source_id, args=(6, 7)).result(60)

    group = ex.task_group_id = str(uuid.uuid4())
    futures = [ex.submit(add, i, 100) for i in range(20)]
    values = [f.result(60) for f in futures]
    seen["many"] = values
    seen["task_ids"] = len({f.task_id for f in futures})

with Executor(endpoint_id=endpoint_id, client=client, task_group_id=group) as again:
    seen["reloaded"] = sorted(f.result(60) for f in again.reload_tasks())

batch = client.create_batch()
for i in range(3):
    batch.add(fid, args=(i,), kwargs={"b": 1})
ids = client.batch_run(endpoint_id, batch)["tasks"][fid]
single = client.run(5, 6, endpoint_id=endpoint_id, function_id=fid)


def wait(task_id):
    import time

    end = time.time() + 60
    while client.get_task(task_id)["pending"]:
        if time.time() > end:
            raise TimeoutError(task_id)
        time.sleep(0.1)


for task_id in [*ids, single]:
    wait(task_id)
seen["batch_run"] = [client.get_result(t) for t in ids]
seen["batch_result"] = sorted(v["result"] for v in client.get_batch_result(ids).values())
seen["run"] = client.get_result(single)

every = Client(code_serialization_strategy=AllCodeStrategies())
with Executor(endpoint_id=endpoint_id, client=every) as ex:
    seen["all_code_strategies"] = ex.submit(add, 3, 4).result(60)
jsons = Client(data_serialization_strategy=JSONData())
with Executor(endpoint_id=endpoint_id, client=jsons) as ex:
    seen["json_arguments"] = ex.submit(give, {"k": [1, 2]}).result(60)
with Executor(endpoint_id=endpoint_id, client=client) as ex:
    seen["too_large_argument"] = failure(ex.submit(len, "y" * 20_000_000))

print(json.dumps(seen))

"""What every release of the SDK offers, printed as one JSON object."""

import json
import os
import sys
import time

import globus_compute_sdk
from globus_compute_sdk import Client, Executor

endpoint_id = sys.argv[1]


def add(a, b):
    return a + b


def plus(a, b):
    return a + b


def fail():
    raise ValueError("not today")


def failure(future):
    try:
        return future.result(60)
    except Exception as e:
        return f"{type(e).__name__}: {e}"


seen = {}
client = Client()
with Executor(endpoint_id=endpoint_id) as ex:
    seen["submit"] = ex.submit(add, 1, 2).result(60)
    seen["many"] = [f.result(60) for f in [ex.submit(add, i, 100) for i in range(20)]]
    seen["failure"] = failure(ex.submit(fail))
    fid = ex.register_function(plus)
    seen["registered"] = ex.submit_to_registered_function(fid, args=(20, 22)).result(60)
    if hasattr(globus_compute_sdk, "ShellFunction"):
        told = failure(ex.submit(globus_compute_sdk.ShellFunction("echo hello {name}; exit 3"), name="bob"))
        seen["shell"] = told if isinstance(told, str) else [told.returncode, told.stdout]

task_id = client.run(5, 6, endpoint_id=endpoint_id, function_id=fid)
end = time.time() + 60
while client.get_task(task_id)["pending"] and time.time() < end:
    time.sleep(0.1)
seen["run"] = client.get_result(task_id)
seen["status"] = client.get_endpoint_status(endpoint_id)["status"]
print(json.dumps(seen), flush=True)
os._exit(0)  # the oldest leave threads behind that nobody ends

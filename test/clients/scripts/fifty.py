"""The same call fifty times, one request each: fifty ids and fifty values."""

import json
import sys

from globus_compute_sdk import Client

endpoint_id = sys.argv[1]
n = int(sys.argv[2])


def same():
    return 42


client = Client()
fid = client.register_function(same)
ids = [client.run(endpoint_id=endpoint_id, function_id=fid) for _ in range(n)]


def value(task_id):
    import time

    end = time.time() + 60
    while client.get_task(task_id)["pending"]:
        if time.time() > end:
            raise TimeoutError(task_id)
        time.sleep(0.05)
    return client.get_result(task_id)


print(json.dumps({"function_id": fid, "ids": ids, "values": [value(i) for i in ids]}))

"""Submits N calls that each sleep SECONDS. Prints {"values", "ids"}; the value of a failed call is the text of its error."""

import json
import sys

from globus_compute_sdk import Executor

endpoint_id, n, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
config = json.loads(sys.argv[4]) if len(sys.argv) > 4 else None


def slow(i, seconds):
    import time

    time.sleep(seconds)
    return i * i


with Executor(endpoint_id=endpoint_id, user_endpoint_config=config) as ex:
    futures = [ex.submit(slow, i, seconds) for i in range(n)]
    values = []
    for f in futures:
        try:
            values.append(f.result(600))
        except Exception as e:
            values.append(f"{type(e).__name__}: {e}")
    print(json.dumps({"values": values, "ids": [f.task_id for f in futures]}))

"""The same function by every way to serialize it: what came back, or the error, as one JSON object."""

import json
import sys

from globus_compute_sdk import Client, Executor
from globus_compute_sdk.errors import TaskExecutionFailed
from globus_compute_sdk.serialize import ComputeSerializer, DillCodeSource, DillDataBase64, JSONData
from globus_compute_sdk.serialize.concretes import SELECTABLE_STRATEGIES

endpoint_id = sys.argv[1]


def add(a, b=2):
    return a + b


def wrong():
    raise ValueError("no")


def outcome(serializer, function=add, *args):
    try:
        with Executor(endpoint_id=endpoint_id, client=Client(), serializer=serializer) as ex:
            return ex.submit(function, *args).result(60)
    except TaskExecutionFailed as error:
        return f"TaskExecutionFailed: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


code = [s for s in SELECTABLE_STRATEGIES if s.for_code]
seen = {s.__name__: outcome(ComputeSerializer(strategy_code=s(), strategy_data=DillDataBase64()), add, 40) for s in code}
seen["by default"] = outcome(ComputeSerializer(), add, 40)
seen["a function that raises"] = outcome(ComputeSerializer(strategy_code=DillCodeSource()), wrong)
seen["JSONData"] = outcome(ComputeSerializer(strategy_code=DillCodeSource(), strategy_data=JSONData()), add, 40)
print(json.dumps(seen))

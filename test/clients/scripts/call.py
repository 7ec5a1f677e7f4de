"""One call of a function: a registered one by its id, or a new one registered with these options. How it ended."""

import json
import sys

from globus_compute_sdk import Client, Executor

endpoint_id, function_id, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])


def add(a, b):
    return a + b


def outcome(what):
    try:
        return {"value": what()}
    except Exception as e:
        return {"error": str(e), "status": getattr(e, "http_status", None), "code": getattr(e, "code", None)}


client = Client()


def call():
    if function_id == "-":
        seen["function_id"] = client.register_function(add, **options)
    with Executor(endpoint_id=endpoint_id, client=client) as ex:
        return ex.submit_to_registered_function(seen["function_id"], args=(20, 22)).result(100)


seen = {"function_id": function_id}
seen.update(outcome(call))
seen["allowed"] = outcome(lambda: client.get_allowed_functions(endpoint_id))
seen["function"] = outcome(lambda: client.get_function(seen["function_id"])["function_name"])
print(json.dumps(seen))

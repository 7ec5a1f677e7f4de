"""Calls every public method of Client and Executor; the names are read from the classes, so a missing row shows."""

import json
import sys
import time
import uuid

import requests
from globus_compute_sdk import Client, Executor
from globus_compute_sdk.serialize import ComputeSerializer
from globus_sdk.scopes import ComputeScopes

endpoint_id, spare_endpoint_id = sys.argv[1], sys.argv[2]
client = Client()
ex = Executor(endpoint_id=endpoint_id, client=client)


def add(a, b):
    return a + b


def same(a):
    return a


def wait_until_finished(task_id):
    end = time.time() + 60
    while client.get_task(task_id)["pending"]:
        if time.time() > end:
            raise TimeoutError(task_id)
        time.sleep(0.1)
    return task_id


def exception_name(f):
    try:
        f()
    except Exception as e:
        return f"{type(e).__name__}"
    return "nothing"


def reports_hardware(of, *args):
    told = of.get_worker_hardware_details(*args)
    text = told if of is ex else client.get_result(wait_until_finished(told))  # the client gives a task's id
    return "CPU" in text.upper()


def token_refused_after_logout():
    """The token that was used until now is refused after it."""
    header = client.app.get_authorizer(ComputeScopes.resource_server).get_authorization_header()
    url = "http://localhost:5000/v2/endpoints"
    before = requests.get(url, headers={"Authorization": header}).status_code
    client.logout()
    return [before, requests.get(url, headers={"Authorization": header}).status_code] == [200, 401]


def example_batch():
    made = client.create_batch()
    made.add(fid, args=(1, 2))
    return made


def deleted_function():
    victim = client.register_function(same)
    client.delete_function(victim)
    return exception_name(lambda: client.get_function(victim))


def set_and_read(name, value):
    before = getattr(ex, name)
    setattr(ex, name, value)
    after = getattr(ex, name)
    setattr(ex, name, before)
    return after == value


def reload_and_read():
    group = str(uuid.uuid4())
    with Executor(endpoint_id=endpoint_id, client=client, task_group_id=group) as first:
        first.submit(add, 20, 22).result(60)
    with Executor(endpoint_id=endpoint_id, client=client, task_group_id=group) as second:
        return [f.result(60) for f in second.reload_tasks()]


fid = client.register_function(add)
task = client.run(20, 22, endpoint_id=endpoint_id, function_id=fid)
wait_until_finished(task)

TABLE = {
    "Client": {
        "FUNCX_SCOPE": lambda: isinstance(client.FUNCX_SCOPE, str),
        "FUNCX_SDK_CLIENT_ID": lambda: isinstance(client.FUNCX_SDK_CLIENT_ID, str),
        "auth_client": lambda: client.auth_client.userinfo()["sub"] == client.get_endpoint_metadata(endpoint_id)["owner_id"],
        "register_function": lambda: len(client.register_function(same)) == 36,
        "register_source_code": lambda: len(client.register_source_code("def f():\n    return 1\n", "f")) == 36,
        "get_function": lambda: client.get_function(fid)["function_name"] == "add",
        "delete_function": lambda: deleted_function() == "ComputeAPIError",
        "run": lambda: client.get_result(task) == 42,
        "create_batch": lambda: len(example_batch().tasks) == 1,
        "batch_run": lambda: client.get_result(wait_until_finished(client.batch_run(endpoint_id, example_batch())["tasks"][fid][0])) == 3,
        "get_task": lambda: client.get_task(task)["status"] == "success",
        "get_result": lambda: client.get_result(task) == 42,
        "get_batch_result": lambda: client.get_batch_result([task])[task]["result"] == 42,
        "get_result_amqp_url": lambda: client.get_result_amqp_url()["connection_url"].startswith("amqp"),
        "get_endpoints": lambda: endpoint_id in [e["uuid"] for e in client.get_endpoints()],
        "get_endpoint_metadata": lambda: client.get_endpoint_metadata(endpoint_id)["uuid"] == endpoint_id,
        "get_endpoint_status": lambda: client.get_endpoint_status(endpoint_id)["status"] == "online",
        "get_allowed_functions": lambda: client.get_allowed_functions(endpoint_id)["restricted"] is False,
        "get_worker_hardware_details": lambda: reports_hardware(client, endpoint_id),
        "register_endpoint": lambda: "command_queue_info" in client.register_endpoint("spare", spare_endpoint_id, metadata={}),
        "stop_endpoint": lambda: client.stop_endpoint(spare_endpoint_id)["endpoint_id"] == spare_endpoint_id,
        "delete_endpoint": lambda: client.delete_endpoint(spare_endpoint_id) is not None,
        "version_check": lambda: client.version_check() is None,
        "logout": lambda: token_refused_after_logout(),
    },
    "Executor": {
        "endpoint_id": lambda: str(ex.endpoint_id) == endpoint_id,
        "amqp_port": lambda: set_and_read("amqp_port", ex.amqp_port),
        "resource_specification": lambda: set_and_read("resource_specification", {"num_nodes": 1}),
        "user_endpoint_config": lambda: set_and_read("user_endpoint_config", {"a": 1}),
        "result_serializers": lambda: set_and_read("result_serializers", None),
        "serializer": lambda: isinstance(ex.serializer, ComputeSerializer),
        "task_group_id": lambda: set_and_read("task_group_id", uuid.uuid4()),
        "register_function": lambda: len(ex.register_function(same)) == 36,
        "register_source_code": lambda: len(ex.register_source_code("def g():\n    return 1\n", "g")) == 36,
        "submit": lambda: ex.submit(add, 1, 2).result(60) == 3,
        "submit_to_registered_function": lambda: ex.submit_to_registered_function(fid, args=(1, 2)).result(60) == 3,
        # Always so in 4.19.0; the service has no part in it.
        "map": lambda: exception_name(lambda: ex.map(add, [1], [2])) == "NotImplementedError",
        "get_worker_hardware_details": lambda: reports_hardware(ex),
        "reload_tasks": lambda: reload_and_read() == [42],
        "shutdown": lambda: ex.shutdown() is None,
    },
}

seen = {}
for cls in (Executor, Client):
    name = cls.__name__
    public = {n for n in dir(cls) if not n.startswith("_")}
    seen[name] = {n: "no row" for n in public}
    for method, check in TABLE[name].items():
        try:
            seen[name][method] = check()
        except Exception as e:
            seen[name][method] = f"{type(e).__name__}: {e}"
print(json.dumps(seen))

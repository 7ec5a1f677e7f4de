"""What a Python worker needs in addition to `temporalio`: one request when it starts."""

import base64
import inspect
import json
import os
import urllib.parse
import urllib.request
import zlib

SCOPE = "https://auth.globus.org/scopes/facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all"
CALLS_QUEUE = "funcx-calls"


def named(function):
    """Returns `name@version`. The version is a checksum of the source, so worker and workflow compute the same name."""
    return f"{function.__name__}@{zlib.crc32(inspect.getsource(function).encode()):08x}"


def register(task_queue, functions, namespace="default"):
    """Registers the functions. Calls of workflows on this task queue then act as the identity in FUNCX_CLIENT_ID."""
    api = os.environ.get("FUNCX_API_URL", "http://localhost:5000")
    secret = f"{os.environ['FUNCX_CLIENT_ID']}:{os.environ['FUNCX_CLIENT_SECRET']}".encode()
    form = urllib.parse.urlencode({"grant_type": "client_credentials", "scope": SCOPE}).encode()
    headers = {"Authorization": "Basic " + base64.b64encode(secret).decode()}
    token = _send(urllib.request.Request(f"{api}/v2/oauth2/token", data=form, headers=headers))["access_token"]
    declared = []
    for function in functions:
        name, version = named(function).split("@")
        declared.append({"name": name, "version": version, "source": inspect.getsource(function)})
    body = json.dumps({"namespace": namespace, "functions": declared}).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    path = f"{api}/v1/pipelines/{urllib.parse.quote(task_queue, safe='')}"
    return _send(urllib.request.Request(path, data=body, headers=headers, method="PUT"))


def _send(request):
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)

"""A submitter with the released funcX client 1.0.4, or, as `reattach`, a fresh process that reads answers by batch_status.

Reads calls from standard input, a JSON list a line; at the end of the input it waits for every answer. A broken connection
ends a thread of this client and its futures hang, and so does a refused request (`funcx/sdk/executor.py`):
then this process ends with 3, and another one goes on with the same task group.
"""

import json
import os
import sys
import time

from funcx import FuncXClient, FuncXExecutor

mode, log_file, endpoint_id, group_id = sys.argv[1:5]
address = {
    "funcx_service_address": os.environ["FUNCX_API_URL"] + "/v2",
    "results_ws_uri": os.environ["FUNCX_WS_URL"] + "/v2",
}
# Longer than a task takes, whatever happens to the service meanwhile.
PATIENCE_S = 45


def write(**event):
    with open(log_file, "a") as log:
        log.write(json.dumps({"at": int(time.time() * 1000), **event}) + "\n")


def retried(make):
    """The service may be away."""
    while True:
        try:
            return make()
        except Exception as error:
            print(f"again: {error}", file=sys.stderr)
            time.sleep(1)


def outcome(future):
    error = future.exception()
    return {"value": future.result()} if error is None else {"error": f"{type(error).__name__}: {error}"}


def chaos(key, kind):
    import time
    import uuid

    token = uuid.uuid4().hex
    if kind == "slow":
        time.sleep(1.5)
    if kind == "fails":
        raise ValueError(f"{key}:failed:{token}")
    return f"{key}:{sum(map(ord, key)) ** 2}:{token}"


def end(status, reason=None):
    if reason is not None:
        write(event="broken", reason=reason)
    sys.stderr.flush()
    os._exit(status)  # its exit handlers can block for ever


class Submitter:
    def __init__(self):
        client = retried(lambda: FuncXClient(task_group_id=group_id, **address))
        self.executor = FuncXExecutor(client)
        retried(lambda: self.executor.register_function(chaos))
        self.calls = {}
        self.accepted = set()
        self.moved_at = time.time()

    def submit(self, key, kind):
        self.calls[key] = self.executor.submit(chaos, key, kind, endpoint_id=endpoint_id)
        self.moved_at = time.time()

    def look(self):
        for key, future in list(self.calls.items()):
            if future.task_id is not None and key not in self.accepted:
                self.accepted.add(key)
                write(event="accepted", key=key, task=future.task_id)
            if future.done():
                self.calls.pop(key)
                if not future.cancelled():
                    write(event="settled", key=key, **outcome(future))
                self.moved_at = time.time()
        if not self.executor._task_submit_thread.is_alive():
            self.give_up("a request was refused, which ends the thread that submits")
        if self.calls and time.time() - self.moved_at > PATIENCE_S:
            self.give_up("futures hang after a broken connection")

    def give_up(self, reason):
        # The next process registers its own function, so the service cannot know its request for a repeat of this one.
        for key in self.calls.keys() - self.accepted:
            write(event="refused", key=key, error=reason)
        end(3, reason)


def submit_all():
    import threading

    submitter = Submitter()
    lines = []
    threading.Thread(target=lambda: [lines.append(line) for line in sys.stdin] and None or lines.append(None), daemon=True).start()
    is_over = False
    while not is_over or submitter.calls:
        while lines:
            line = lines.pop(0)
            is_over = is_over or line is None
            for call in json.loads(line or "[]"):
                submitter.submit(call["key"], call["kind"])
        submitter.look()
        time.sleep(0.02)
    end(0)


def reattach():
    client = retried(lambda: FuncXClient(task_group_id=group_id, **address))
    tasks = retried(lambda: client.web_client.get_taskgroup_tasks(group_id))
    waiting = [task["id"] for task in tasks["tasks"]]
    while waiting:
        results = retried(lambda: client.web_client.get_batch_status(waiting))["results"]
        for task, document in results.items():
            if document.get("status", "").lower() not in ("success", "failed"):
                continue
            waiting.remove(task)
            if "result" in document:
                write(event="reattached", task=task, value=client.fx_serializer.deserialize(document["result"]))
            else:
                write(event="reattached", task=task, error=document["exception"])
        time.sleep(0.2)
    end(0)


submit_all() if mode == "submit" else reattach()

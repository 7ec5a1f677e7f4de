"""A submitter with the released globus_compute_sdk, or, as `reattach`, a fresh process that reads its answers.

Reads calls from standard input, a JSON list a line; at the end of the input it waits for every answer. When the service
refuses a request for too long, the SDK ends its executor (`globus_compute_sdk/sdk/executor.py`): then this process ends
with 3, and another one goes on with the same task group. The same holds when its result thread gives up after five
connections: the thread acknowledges on a channel that a killed broker closed, and ends with that error.
"""

import json
import os
import sys
import threading
import time

from globus_compute_sdk import Client, Executor
from globus_compute_sdk.errors import TaskExecutionFailed

mode, log_file, endpoint_id, group_id = sys.argv[1:5]
lock = threading.Lock()


def write(**event):
    with lock, open(log_file, "a") as log:
        log.write(json.dumps({"at": int(time.time() * 1000), **event}) + "\n")


def retried(make):
    """The constructors ask the service, which may be away."""
    while True:
        try:
            return make()
        except Exception as error:
            print(f"again: {error}", file=sys.stderr)
            time.sleep(1)


def outcome(future):
    error = future.exception()
    return {"value": future.result()} if error is None else {"error": f"{type(error).__name__}: {error}"}


def is_given_up(future):
    """The SDK ended the future by itself; a failure that the service reports is a TaskExecutionFailed."""
    error = future.exception()
    return error is not None and not isinstance(error, TaskExecutionFailed)


def chaos(key, kind):
    import time
    import uuid

    token = uuid.uuid4().hex
    if kind == "slow":
        time.sleep(1.5)
    if kind == "fails":
        raise ValueError(f"{key}:failed:{token}")
    return f"{key}:{sum(map(ord, key)) ** 2}:{token}"


class Submitter:
    def __init__(self):
        client = retried(Client)
        # Its own limit of requests is for the hosted service: it would wait 4 s before most of them.
        self.executor = Executor(endpoint_id=endpoint_id, client=client, task_group_id=group_id, api_burst_limit=64)
        self.function_id = retried(lambda: client.register_function(chaos))
        self.calls = {}
        self.accepted = set()
        self.refused = set()
        self.is_refused = False

    def submit(self, key, kind):
        try:
            future = self.executor.submit_to_registered_function(self.function_id, args=(key, kind))
        except Exception as error:
            self.note_refused(key, str(error))
            self.end(str(error))
        self.calls[key] = future
        future.add_done_callback(lambda done: self.settled(key, done))

    def note_accepted(self, key, future):
        with lock:
            if future.task_id is None or key in self.accepted:
                return
            self.accepted.add(key)
        write(event="accepted", key=key, task=str(future.task_id))

    def settled(self, key, future):
        self.note_accepted(key, future)
        if future.task_id is None:
            self.is_refused = True
            self.note_refused(key, str(future.cancelled() or future.exception()))
        elif future.cancelled() or is_given_up(future):
            self.is_refused = True
        else:
            write(event="settled", key=key, **outcome(future))

    def note_refused(self, key, reason):
        with lock:
            if key in self.refused:
                return
            self.refused.add(key)
        write(event="refused", key=key, error=reason)

    def watch(self):
        while True:
            for key, future in list(self.calls.items()):
                self.note_accepted(key, future)
                if future.done():
                    self.calls.pop(key)
            if self.executor._stopped or self.is_refused:
                self.end("the SDK ended its executor")
            time.sleep(0.02)

    def end(self, reason):
        time.sleep(0.5)  # callbacks of futures that fail together with the executor
        for key, future in list(self.calls.items()):
            self.note_accepted(key, future)
            # Its request is under way and may be stored, but its answer comes too late.
            if key not in self.accepted:
                self.note_refused(key, reason)
        write(event="broken", reason=reason)
        os._exit(3)


def submit_all():
    submitter = Submitter()
    threading.Thread(target=submitter.watch, daemon=True).start()
    for line in sys.stdin:
        for call in json.loads(line):
            submitter.submit(call["key"], call["kind"])
    while submitter.calls or submitter.is_refused:
        time.sleep(0.05)
    os._exit(0)


def reattach():
    executor = Executor(endpoint_id=endpoint_id, client=retried(Client))
    for future in retried(lambda: executor.reload_tasks(group_id)):
        future.exception()
        write(event="reattached", task=str(future.task_id), **outcome(future))
    os._exit(0)


submit_all() if mode == "submit" else reattach()

"""Runs one peer and measures it on request: a line of JSON in, a line of JSON out. Standard output carries nothing else."""

import importlib
import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor


# Celery keeps a queue of results for each thread that waits, and may miss results of a new thread. So the same threads serve
# every request.
THREADS = ThreadPoolExecutor(max_workers=64)


def in_threads(count, work):
    if count == 1:
        work()
        return
    ready = threading.Barrier(count)  # each on a thread of its own

    def begin():
        ready.wait()
        work()

    for future in [THREADS.submit(begin) for _ in range(count)]:
        future.result()


def batches(peer, count, tasks):
    """Submits batches one after another without waiting in between, then waits for all results."""
    handles = [peer.submit("noop") for _ in range(count * tasks)]
    for handle in handles:
        peer.wait(handle)


def singles(peer, calls):
    for _ in range(calls):
        peer.wait(peer.submit("noop"))


def seconds(work):
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def measure(peer, request):
    kind = request["kind"]
    if kind == "submitters":
        return seconds(lambda: in_threads(request["count"], lambda: batches(peer, request["batches"], request["tasks"])))
    if kind == "singles":
        return seconds(lambda: in_threads(request["count"], lambda: singles(peer, request["calls"])))
    if kind == "echo":
        value = "x" * request["bytes"]
        return seconds(lambda: peer.wait(peer.submit("echo", value)))
    raise ValueError(f"unknown request {kind}")


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the peers print goes to standard error
    peer = importlib.import_module(sys.argv[1]).Peer()
    try:
        singles(peer, 3)
        print(json.dumps({"ready": True}), file=answers, flush=True)
        for line in sys.stdin:
            try:
                answer = {"seconds": measure(peer, json.loads(line))}
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), file=answers, flush=True)
    finally:
        peer.close()


if __name__ == "__main__":
    main()

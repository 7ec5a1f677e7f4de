"""Celery on the broker of the measured system: messages and results on disk, acknowledged after the call, one worker process."""

import os
import subprocess
import sys

from celery import Celery

import calls

app = Celery("celery_peer", broker=os.environ["BENCH_AMQP_URL"], backend="rpc://")
app.conf.update(
    task_acks_late=True,
    task_default_delivery_mode="persistent",
    result_persistent=True,
    task_default_queue="bench",
    worker_enable_remote_control=False,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
)
FUNCTIONS = {name: app.task(getattr(calls, name), name=f"calls.{name}") for name in ("noop", "echo")}


class Peer:
    def __init__(self):
        command = ["-m", "celery", "-A", "celery_peer", "worker", "--concurrency", "1", "--loglevel", "error"]
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        self.worker = subprocess.Popen([sys.executable, *command, *quiet], stdin=subprocess.DEVNULL, stdout=sys.stderr)

    def submit(self, function, *arguments):
        return FUNCTIONS[function].delay(*arguments)

    def wait(self, handle):
        return handle.get(timeout=300)

    def close(self):
        self.worker.terminate()
        self.worker.wait()

"""Parsl with its HighThroughputExecutor: one worker process, nothing on disk."""

import parsl
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider

import calls


class Peer:
    def __init__(self):
        executor = HighThroughputExecutor(
            label="bench",
            address="127.0.0.1",
            loopback_address="127.0.0.1",
            max_workers_per_node=1,
            encrypted=False,
            provider=LocalProvider(init_blocks=1, max_blocks=1),
        )
        self.loaded = parsl.load(Config(executors=[executor], strategy="none", usage_tracking=0, initialize_logging=False))
        self.functions = {name: parsl.python_app(getattr(calls, name)) for name in ("noop", "echo")}

    def submit(self, function, *arguments):
        return self.functions[function](*arguments)

    def wait(self, handle):
        return handle.result(timeout=300)

    def close(self):
        self.loaded.cleanup()

"""Dask distributed: a scheduler and one worker process, nothing on disk."""

from distributed import Client, LocalCluster

import calls


class Peer:
    def __init__(self):
        self.cluster = LocalCluster(
            n_workers=1, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None, silence_logs=40
        )
        self.client = Client(self.cluster)

    def submit(self, function, *arguments):
        return self.client.submit(getattr(calls, function), *arguments, pure=False)

    def wait(self, handle):
        return handle.result(timeout=300)

    def close(self):
        self.client.close()
        self.cluster.close()

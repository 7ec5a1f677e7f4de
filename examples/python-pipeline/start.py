"""python start.py INSTRUMENT CLUSTER: both are names of endpoints."""

import asyncio
import json
import os
import sys
import time

from temporalio.client import Client

from workflows import FitCurve


async def main(instrument, cluster):
    client = await Client.connect(os.environ.get("TEMPORAL_ADDRESS", "localhost:7233"))
    best = await client.execute_workflow(
        FitCurve.run,
        args=[instrument, cluster],
        id=f"fit-curve-{time.time_ns()}",
        task_queue="fit-curve",
        static_summary="the best fit",
    )
    print(json.dumps(best, sort_keys=True))


asyncio.run(main(*sys.argv[1:]))
# At exit, Python can abort while a thread of temporalio still runs (temporalio/sdk-python issue 300).
sys.stdout.flush()
os._exit(0)

import asyncio
import os

from temporalio.client import Client
from temporalio.worker import Worker

from functions import fit, measure
from funcx_temporal.pipeline import register
from workflows import FitCurve

TASK_QUEUE = "fit-curve"


async def main():
    register(TASK_QUEUE, [measure, fit])
    client = await Client.connect(os.environ.get("TEMPORAL_ADDRESS", "localhost:7233"))
    await Worker(client, task_queue=TASK_QUEUE, workflows=[FitCurve]).run()


asyncio.run(main())

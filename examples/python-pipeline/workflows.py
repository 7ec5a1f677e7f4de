from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from functions import fit, measure
    from funcx_temporal.pipeline import CALLS_QUEUE, named


@workflow.defn
class FitCurve:
    """Measures on one endpoint, tries several fits on another endpoint as one submission, and returns the best fit."""

    @workflow.run
    async def run(self, instrument: str, cluster: str) -> dict:
        me = workflow.info().workflow_id
        # By reference: the tuples stay tuples, and the measurement stays in the store of the service.
        measured = await workflow.execute_child_workflow(
            "funcxCall",
            {"function": named(measure), "endpoint": instrument, "args": [10], "result": "reference"},
            id=f"{me}/measure",
            task_queue=CALLS_QUEUE,
            static_summary=f"measure on {instrument}",
        )
        fits = await workflow.execute_child_workflow(
            "funcxMap",
            {
                "function": named(fit),
                "endpoint": cluster,
                "args_list": [[measured, degree] for degree in range(1, 5)],
                "failure": {"tolerate_percent": 50},
            },
            id=f"{me}/fit",
            task_queue=CALLS_QUEUE,
            static_summary=f"fit x4 on {cluster}",
        )
        return min((value for value in fits["values"] if value is not None), key=lambda value: value["error"])

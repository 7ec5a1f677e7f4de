"""Three functions in a row over two endpoints, written with Gladier: ((n + 1) * 10) - 3. Each leaves a line in the folder `marks`."""

import json
import sys

from gladier import GladierBaseClient, GladierBaseTool, generate_flow_definition


def first_step(n, marks, **data):
    import os

    with open(os.path.join(marks, "first"), "a") as file:
        file.write("x\n")
    return {"n": n + 1, "marks": marks, "pause": data.get("pause", 0)}


def second_step(n, marks, pause, **data):
    import os
    import time

    with open(os.path.join(marks, "second"), "a") as file:
        file.write("x\n")
    time.sleep(pause)
    return {"n": n * 10, "marks": marks}


def third_step(n, marks, **data):
    import os

    with open(os.path.join(marks, "third"), "a") as file:
        file.write("x\n")
    return {"n": n - 3}


@generate_flow_definition(
    modifiers={
        "second_step": {"payload": "$.FirstStep.details.results[0].output", "endpoint": "$.input.second_endpoint", "WaitTime": 600},
        "third_step": {"payload": "$.SecondStep.details.result[0]"},
    }
)
class Steps(GladierBaseTool):
    compute_functions = [first_step, second_step, third_step]
    required_input = ["compute_endpoint", "second_endpoint"]


@generate_flow_definition
class Client(GladierBaseClient):
    gladier_tools = [Steps]


client = Client()
run = client.run_flow(flow_input={"input": json.loads(sys.argv[1])}, label="three steps " + "x" * 80, tags=["gladier"])
print("run", run["run_id"], file=sys.stderr, flush=True)
client.progress(run["run_id"])
status = client.get_status(run["run_id"])
output = status["details"].get("output", {})
print(
    json.dumps(
        {
            "run_id": run["run_id"],
            "flow_id": run["flow_id"],
            "status": status["status"],
            "label": run["label"],
            "value": output.get("ThirdStep", {}).get("details", {}).get("results", [{}])[0].get("output"),
            "details": status["details"],
        }
    )
)

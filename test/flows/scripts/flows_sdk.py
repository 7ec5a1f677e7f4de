"""Every route of Globus Flows through `globus_sdk`, as a client with credentials. The last line of output is JSON."""

import json
import os
import sys
import time

import globus_sdk
from globus_sdk import ClientApp, FlowsClient, SpecificFlowClient
from globus_sdk.token_storage import MemoryTokenStorage

endpoint, function = sys.argv[1:3]
app = ClientApp(
    "flows",
    client_id=os.environ["GLOBUS_CLI_CLIENT_ID"],
    client_secret=os.environ["GLOBUS_CLI_CLIENT_SECRET"],
    config=globus_sdk.GlobusAppConfig(token_storage=MemoryTokenStorage(), environment="local"),
)
flows = FlowsClient(app=app, environment="local")
seen = {}


def refused(call):
    try:
        call()
    except globus_sdk.FlowsAPIError as error:
        return [error.http_status, error.code, error.messages]
    return None


def action(name, **fields):
    return {
        "Type": "Action",
        "ActionUrl": "https://compute.actions.globus.org/v3",
        "Parameters": {"endpoint_id.$": "$.endpoint", "tasks": [{"function_id.$": "$.function", "kwargs": {"n.$": "$.n"}}]},
        "ResultPath": f"$.{name}",
        **fields,
    }


definition = {
    "StartAt": "Begin",
    "Comment": None,
    "States": {
        "Begin": {"Type": "Pass", "Comment": None, "Result": {"seen": True}, "ResultPath": "$.begin", "Next": "Call"},
        "Call": action("Call", Next="Add", WaitTime=120),
        "Add": {
            "Type": "ExpressionEval",
            "Parameters": {"n.=": "Call.details.result[0] + 1", "list.=": "[x * 2 for x in range_ if x > 1]"},
            "ResultPath": "$.sum",
            "Next": "Choose",
        },
        "Choose": {
            "Type": "Choice",
            "Choices": [{"Variable": "$.sum.n", "NumericGreaterThan": 5, "Next": "Rest"}],
            "Default": "Give up",
        },
        "Rest": {"Type": "Wait", "Seconds": 1, "Next": "Bad"},
        "Bad": action(
            "Bad",
            Parameters={"endpoint_id.$": "$.endpoint", "tasks": [{"function_id.$": "$.function", "kwargs": {"n": "text"}}]},
            ExceptionOnActionFailure=True,
            Catch=[{"ErrorEquals": ["ActionFailedException"], "ResultPath": "$.caught", "Next": "Done"}],
            Next="Give up",
        ),
        "Done": {"Type": "Pass", "End": True},
        "Give up": {"Type": "Fail", "Error": "GaveUp", "Cause": "n is too small"},
    },
}
schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}

seen["validate"] = flows.validate_flow(definition, schema).data
broken = json.loads(json.dumps(definition))
del broken["States"]["Done"]["End"]
broken["States"]["Rest"]["Next"] = "Nowhere"
seen["invalid"] = refused(lambda: flows.validate_flow(broken, schema))
transfer = {"StartAt": "T", "States": {"T": action("T", ActionUrl="https://transfer.actions.globus.org/transfer", End=True)}}
seen["transfer"] = refused(lambda: flows.validate_flow(transfer))[:2]

flow = flows.create_flow("every state", definition, schema, subtitle="s", description="d", keywords=["k"], flow_viewers=["public"])
flow_id = flow["id"]
seen["created"] = [flow.http_status, flow["flow_viewers"]]
seen["got"] = flows.get_flow(flow_id)["definition"] == definition
seen["updated"] = flows.update_flow(flow_id, title="every state, again")["title"]
listed = flows.paginated.list_flows(filter_roles="flow_owner", filter_fulltext="every state", orderby=("title ASC", "updated_at DESC"))
seen["listed"] = flow_id in [one["id"] for page in listed for one in page["flows"]]

one = SpecificFlowClient(flow_id, app=app, environment="local")
seen["refused input"] = refused(lambda: one.validate_run({"n": "x"}))
body = {"n": 5, "endpoint": endpoint, "function": function, "range_": [1, 2, 3], "_private_word": "hidden"}
seen["good input"] = one.validate_run(body).data
seen["no token of the flow"] = refused(lambda: flows.post(f"/flows/{flow_id}/run", data={"body": body}))[:2]


def finish(run_id, deadline=120):
    end = time.time() + deadline
    while time.time() < end:
        run = flows.get_run(run_id, include_flow_description=True)
        if run["status"] in ("SUCCEEDED", "FAILED"):
            return run
        time.sleep(0.3)
    raise SystemExit(f"run {run_id} did not end: {json.dumps(run.data)}")


started = one.run_flow(body, label="a label", tags=[" a  b "])
seen["started"] = [started.http_status, started["status"], started["details"]["code"], started["tags"]]
run = finish(started["run_id"])
output = run["details"].get("output", {})
seen["ended"] = {
    "status": run["status"],
    "code": run["details"]["code"],
    "description": run["flow_description"]["title"],
    "call": output.get("Call", {}).get("details", {}).get("result"),
    "action": [output.get("Call", {}).get(key) for key in ("status", "state_name")],
    "sum": output.get("sum"),
    "caught": output.get("caught", {}).get("Error"),
    "hidden": "hidden" not in json.dumps(run.data),
}
log = [entry for page in flows.paginated.get_run_logs(run["run_id"], limit=4) for entry in page["entries"]]
seen["log"] = [entry["code"] for entry in log]
seen["log is hidden"] = "hidden" not in json.dumps(log)
seen["newest"] = flows.get_run_logs(run["run_id"], limit=1, reverse_order=True)["entries"][0]["code"]
seen["definition"] = flows.get_run_definition(run["run_id"])["definition"] == definition
seen["renamed"] = flows.update_run(run["run_id"], label="new label")["label"]
seen["in list"] = run["run_id"] in [r["run_id"] for page in flows.paginated.list_runs(filter_flow_id=flow_id) for r in page["runs"]]

low = finish(one.run_flow({**body, "n": 1})["run_id"])
seen["failed"] = [low["status"], low["details"]["code"], "GaveUp" in json.dumps(low["details"])]
waiting = SpecificFlowClient(
    flows.create_flow("waits", {"StartAt": "W", "States": {"W": {"Type": "Wait", "Seconds": 600, "End": True}}}, {})["id"],
    app=app,
    environment="local",
)
sleeper = waiting.run_flow({})
seen["release of an open run"] = refused(lambda: flows.delete_run(sleeper["run_id"]))[:2]
seen["cancel"] = flows.cancel_run(sleeper["run_id"]).http_status
cancelled = finish(sleeper["run_id"])
seen["cancelled"] = [cancelled["status"], cancelled["details"]["code"]]
seen["resumed"] = one.resume_run(low["run_id"])["status"]
seen["failed again"] = finish(low["run_id"])["status"]
flows.delete_run(run["run_id"])
seen["released"] = refused(lambda: flows.get_run(run["run_id"]))[:2]
seen["deleted"] = flows.delete_flow(flow_id)["DELETED"]
seen["gone"] = refused(lambda: flows.get_flow(flow_id))[:2]
seen["apis"] = list(flows.list_registered_apis())
seen["web inputs"] = list(flows.list_web_inputs())
seen["no web input"] = refused(lambda: flows.get_web_input(flow_id))[:2]
print(json.dumps(seen))

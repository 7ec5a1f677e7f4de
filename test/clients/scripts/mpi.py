"""An MPI function over some nodes: what its ranks say, and how the call ended."""

import json
import sys

from globus_compute_sdk import Executor, MPIFunction

endpoint_id, nodes, ranks_per_node = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

with Executor(endpoint_id=endpoint_id) as ex:
    ex.resource_specification = {"num_nodes": nodes, "ranks_per_node": ranks_per_node}
    result = ex.submit(MPIFunction("sh -c 'echo rank $PMI_RANK of {what}'"), what="many").result(300)
    print(json.dumps({"returncode": result.returncode, "lines": sorted(result.stdout.split("\n")), "stderr": result.stderr[-500:]}))

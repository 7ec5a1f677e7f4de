"""Which account runs a task."""

import json
import sys

from globus_compute_sdk import Executor


def account():
    import os
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name, os.getuid()


config = json.loads(sys.argv[2]) if len(sys.argv) > 2 else None
with Executor(endpoint_id=sys.argv[1], user_endpoint_config=config) as ex:
    try:
        print(json.dumps({"value": ex.submit(account).result(90)}))
    except Exception as e:
        print(json.dumps({"error": str(e)}))

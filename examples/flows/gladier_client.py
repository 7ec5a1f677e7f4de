"""A Gladier client with two steps: python3 gladier_client.py <endpoint id>"""

import json
import sys

from gladier import GladierBaseClient, GladierBaseTool, generate_flow_definition


def count_words(text, **data):
    return {"words": len(text.split())}


def describe(words, **data):
    return f"{words} words"


@generate_flow_definition(modifiers={"describe": {"payload": "$.CountWords.details.result[0]"}})
class Words(GladierBaseTool):
    compute_functions = [count_words, describe]
    required_input = ["text", "compute_endpoint"]


@generate_flow_definition
class WordsClient(GladierBaseClient):
    gladier_tools = [Words]


if __name__ == "__main__":
    client = WordsClient()
    run = client.run_flow(flow_input={"input": {"text": "to be or not to be", "compute_endpoint": sys.argv[1]}}, label="words")
    client.progress(run["run_id"])
    details = client.get_status(run["run_id"])["details"]
    print(json.dumps(details["output"]["Describe"]["details"]["result"][0]))

"""Tells the type of files with the model `magika`, over the V2 REST protocol. Python's standard library is enough.

usage: python3 docs/examples/filetype.py URL LABELS FILE...
   URL     where Warmpath serves REST, such as http://127.0.0.1:8008
   LABELS  the model's own configuration, which names its labels (`npm start` prints where it lies)
"""
import json
import sys
import urllib.request


def model_input(data):
    """The first and the last 1,024 bytes without surrounding white space, padded with 256."""
    head, tail = data[:4096].lstrip()[:1024], data[-4096:].rstrip()[-1024:]
    return list(head) + [256] * (1024 - len(head)) + [256] * (1024 - len(tail)) + list(tail)


url, labels, *files = sys.argv[1:]
with open(labels) as file:
    names = json.load(file)["target_labels_space"]
rows = []
for path in files:
    with open(path, "rb") as file:
        rows += model_input(file.read())
tensor = {"name": "bytes", "shape": [len(files), 2048], "datatype": "INT32", "data": rows}
request = urllib.request.Request(f"{url}/v2/models/magika/infer", json.dumps({"inputs": [tensor]}).encode())
with urllib.request.urlopen(request) as response:
    scores = json.load(response)["outputs"][0]["data"]
for at, path in enumerate(files):
    row = scores[at * len(names):(at + 1) * len(names)]
    best = max(range(len(row)), key=row.__getitem__)
    print(f"{path}: {names[best]} ({row[best]:.2f})")

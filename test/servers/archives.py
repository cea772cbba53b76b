"""Model archives of TorchServe: one that answers, ones that cannot be loaded for each reason that there is, and a large one."""

import json
import sys
import zipfile
from pathlib import Path

ANSWERS = '''import json
import os
import signal

def handle(data, context):
    if data is None:
        return None
    answers = []
    for each in data:
        body = each.get("body") or each.get("data")
        asked = json.loads(body) if isinstance(body, (bytes, bytearray)) else body
        if "instances" in asked:
            answers.append({"predictions": [FACTOR * value for value in asked["instances"]]})
            continue
        values = asked["inputs"][0]["data"]
        if values[0] == 666:
            os.kill(os.getpid(), signal.SIGKILL)
        output = {"name": "y", "datatype": "FP32", "shape": [len(values)], "data": [FACTOR * value for value in values]}
        answers.append({"model_name": context.model_name, "outputs": [output]})
    return answers
'''

HANDLERS = {
    "twice": ANSWERS.replace("FACTOR", "2"),
    "thrice": ANSWERS.replace("FACTOR", "3"),
    # 64 MiB of its own.
    "heavy": "held = b'x' * 2**26\n" + ANSWERS.replace("FACTOR", "4"),
    # It comes into the worker piece by piece, so that it is there that the kernel finds no room for it.
    "large": "held = []\nfor _ in range(768):\n    held.append(b'x' * 2**20)\n" + ANSWERS.replace("FACTOR", "5"),
    "raises": "raise RuntimeError('no model')\n",
    "asks": "import no_such_module\n",
    "ends": "import os\nos._exit(3)\n",
    "refused": "raise MemoryError('no memory for it')\n",
}

into = Path(sys.argv[1])
for name, handler in HANDLERS.items():
    model = {"modelName": "other", "handler": "handler.py", "modelVersion": "1.0"}
    manifest = {"runtime": "python", "model": model, "archiverVersion": "0.12.0"}
    with zipfile.ZipFile(into / f"{name}.mar", "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        archive.writestr("handler.py", handler)
(into / "garbage.mar").write_text("no archive\n")

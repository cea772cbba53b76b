"""Runs naming scripts, as they are in Envoy, in the same LuaJIT: a case for each line of standard input."""
import base64
import json
import sys

from lupa.luajit21 import LuaRuntime

lua = LuaRuntime(encoding=None, unpack_returned_tuples=True)
with open(sys.argv[1], "rb") as prelude:
    lua.execute(prelude.read())
run = lua.globals()[b"run_case"]
load = lua.globals()[b"load_script"]
scripts = {}
for argument in sys.argv[2:]:
    name, file = argument.split("=", 1)
    with open(file, "rb") as source:
        scripts[name] = load(source.read())
for line in sys.stdin:
    case = json.loads(line)
    headers = lua.table()
    for name, value in case["headers"].items():
        headers[name.encode("latin1")] = value.encode("latin1")
    slot = case.get("slot")
    ok, body = run(scripts[case["script"]], headers, base64.b64decode(case["body"]), None if slot is None else slot.encode())
    told = {name.decode("latin1"): value.decode("latin1") for name, value in headers.items()}
    print(json.dumps({"ok": ok, "headers": told, "body": base64.b64encode(body).decode()}))

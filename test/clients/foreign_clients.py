"""Calls models of any model server with Triton's own clients. Prints one JSON line a case: {"case", "ok", "saw"}.

usage: foreign_clients.py HTTP GRPC CASES   (both host:port; CASES is JSON, see below)

Each of CASES is {"model", "wire", "binary", "inputs": [{"name", "datatype", "shape", "data"}], "outputs": {name: [numbers]}}.
"""
import json
import sys

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from tritonclient.utils import triton_to_np_dtype

from cases import case, finish

http_target, grpc_target, given = sys.argv[1:4]
http = over_http.InferenceServerClient(http_target, network_timeout=60, connection_timeout=60)
grpc = over_grpc.InferenceServerClient(grpc_target)


def tensor_of(client, given_input, **more):
    data = np.array(given_input["data"], dtype=triton_to_np_dtype(given_input["datatype"])).reshape(given_input["shape"])
    tensor = client.InferInput(given_input["name"], list(data.shape), given_input["datatype"])
    tensor.set_data_from_numpy(data, **more)
    return tensor


def infer(model, wire, inputs, outputs, binary):
    if wire == "grpc":
        return grpc.infer(model, [tensor_of(over_grpc, each) for each in inputs], client_timeout=60)
    wanted = [over_http.InferRequestedOutput(name, binary_data=binary) for name in outputs]
    return http.infer(model, [tensor_of(over_http, each, binary_data=binary) for each in inputs], outputs=wanted)


def is_right(each):
    result = infer(each["model"], each["wire"], each["inputs"], each["outputs"], each["binary"])
    for name, expected in each["outputs"].items():
        got = result.as_numpy(name)
        assert got is not None, f"no output {name}"
        assert np.allclose(got.ravel().astype(float), expected, atol=1e-4), f"{name} is {got.tolist()}, not {expected}"
    answered = result.get_response()
    name = answered["model_name"] if isinstance(answered, dict) else answered.model_name
    assert name == each["model"], f"the answer is of {name}"


for each in json.loads(given):
    case(f"{each['wire']} {each['model']}", lambda: is_right(each))
finish()

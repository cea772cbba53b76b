"""Calls, with Triton's and KServe's clients over REST, a model whose server has gRPC alone and answers with what it is asked.
Prints one JSON line a case: {"case", "ok", "saw"}.

usage: grpconly_clients.py HTTP GRPC   (both host:port)
"""
import asyncio
import sys

import httpx
import numpy as np
import tritonclient.http as triton
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from tritonclient.utils import InferenceServerException

from cases import case, finish, refused

target = sys.argv[1]
http = triton.InferenceServerClient(target)
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
run = loop.run_until_complete

TENSORS = {
    "BOOL": np.array([[True, False]]),
    "INT8": np.array([-128, 127], dtype=np.int8),
    "INT16": np.array([-32768, 32767], dtype=np.int16),
    "INT32": np.array([-(2**31), 2**31 - 1], dtype=np.int32),
    "INT64": np.array([[-(2**63)], [2**53 + 1]], dtype=np.int64),
    "UINT8": np.array([0, 255], dtype=np.uint8),
    "UINT16": np.array([0, 65535], dtype=np.uint16),
    "UINT32": np.array([0, 2**32 - 1], dtype=np.uint32),
    "UINT64": np.array([0, 2**64 - 1], dtype=np.uint64),
    "FP16": np.array([1.5, -65504, 0.1], dtype=np.float16),
    "FP32": np.array([[0.1, -3.4028235e38, 1e-45]], dtype=np.float32),
    "FP64": np.array([0.1, 1 / 3, 5e-324], dtype=np.float64),
    "BYTES": np.array(["é😀".encode(), b"", b"a\"b"], dtype=np.object_),
}


def over_triton(datatype, binary):
    value = TENSORS[datatype]
    tensor = triton.InferInput("x", value.shape, datatype)
    tensor.set_data_from_numpy(value, binary_data=binary)
    outputs = [triton.InferRequestedOutput("x", binary_data=binary)]
    result = http.infer("echo", [tensor], outputs=outputs, request_id="r-7", parameters={"a": 1, "b": True, "c": "d"})
    assert result.get_response()["model_name"] == "echo", result.get_response()
    assert result.get_response()["id"] == "r-7", result.get_response()
    got = result.as_numpy("x")
    # Over JSON the client gives texts as they are, and bytes where they came as bytes.
    got = [each.encode() if isinstance(each, str) else each for each in got.tolist()]
    assert got == value.tolist(), got


def over_kserve(datatype, binary):
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    value = TENSORS[datatype]
    tensor = InferInput("x", list(value.shape), datatype)
    tensor.set_data_from_numpy(value, binary_data=binary)
    answer = run(client.infer(f"http://{target}", InferRequest(model_name="echo", infer_inputs=[tensor]), model_name="echo"))
    got = answer.outputs[0].as_numpy().tolist()
    got = [each.encode() if isinstance(each, str) else each for each in got]
    assert got == value.tolist(), got
    run(client.close())


def is_ready_for_kserve():
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    return run(client.is_model_ready(f"http://{target}", "echo")) is True


case("triton: cold model is ready", lambda: http.is_model_ready("echo") is True)
case("kserve: model is ready", is_ready_for_kserve)
case("triton: model metadata", lambda: http.get_model_metadata("echo")["inputs"][0]["shape"] == [-1, 4])
for datatype in TENSORS:
    case(f"triton: {datatype}, binary", lambda: over_triton(datatype, True))
    # The client itself has no JSON for FP16.
    if datatype != "FP16":
        case(f"triton: {datatype}, JSON", lambda: over_triton(datatype, False))
        case(f"kserve: {datatype}, JSON", lambda: over_kserve(datatype, False))
case("triton: compressed", lambda: refused(
    lambda: http.infer("echo", [triton.InferInput("x", [0], "FP32").set_data_from_numpy(np.zeros(0, dtype=np.float32))],
                       request_compression_algorithm="gzip"), InferenceServerException, "415", "send it plain"))
case("kserve: V1", lambda: refused(
    lambda: run(InferenceRESTClient(RESTConfig(protocol="v1")).infer(f"http://{target}", {"instances": [1]}, model_name="echo")),
    httpx.HTTPStatusError, "501"))
finish()

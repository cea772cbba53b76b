"""Calls Warmpath with KServe's own clients. Prints one JSON line a case: {"case", "ok", "saw"}.

usage: kserve_clients.py HTTP GRPC   (both host:port)
"""
import asyncio
import sys

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

from cases import case, finish, refused

base = f"http://{sys.argv[1]}"
ROW = np.array([[5.1, 3.5, 1.4, 0.2]], dtype=np.float32)
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
run = loop.run_until_complete


async def open_clients():
    return (
        InferenceRESTClient(RESTConfig(protocol="v2")),
        InferenceRESTClient(RESTConfig(protocol="v1")),
        InferenceGRPCClient(sys.argv[2]),
    )


v2, v1, over_grpc = run(open_clients())


def request(model, binary):
    tensor = InferInput("x", list(ROW.shape), "FP32")
    tensor.set_data_from_numpy(ROW, binary_data=binary)
    return InferRequest(model_name=model, infer_inputs=[tensor])


def is_setosa(answer):
    label = next(output for output in answer.outputs if output.name == "label")
    assert label.as_numpy().tolist() == [0], answer
    return True


case("v2: server is live", lambda: run(v2.is_server_live(base)) is True)
case("v2: server is ready", lambda: run(v2.is_server_ready(base)) is True)
case("v2: cold model is ready", lambda: run(v2.is_model_ready(base, "iris-t0300")) is True)
for attempt in ("cold", "warm"):
    case(f"v2: {attempt} infer, JSON", lambda: is_setosa(run(v2.infer(base, request("iris-t0301", False), model_name="iris-t0301"))))
    case(f"v2: {attempt} infer, binary", lambda: is_setosa(run(v2.infer(base, request("iris-t0302", True), model_name="iris-t0302"))))
    case(f"v1: {attempt} predict", lambda: run(
        v1.infer(base, {"instances": ROW.tolist()}, model_name="iris-t0303"))["predictions"][0]["label"] == 0)
    case(f"grpc: {attempt} infer, typed contents", lambda: is_setosa(run(over_grpc.infer(request("iris-t0304", False)))))
    case(f"grpc: {attempt} infer, raw contents", lambda: is_setosa(run(over_grpc.infer(request("iris-t0305", True)))))
case("v2: unknown model", lambda: refused(
    lambda: run(v2.infer(base, request("nope", False), model_name="nope")), httpx.HTTPStatusError, "404"))
case("v1: model is ready", lambda: run(v1.is_model_ready(base, "iris-t0303")) is True)
case("grpc: server is live", lambda: run(over_grpc.is_server_live()) is True)
case("grpc: server is ready", lambda: run(over_grpc.is_server_ready()) is True)
case("grpc: cold model is ready", lambda: run(over_grpc.is_model_ready("iris-t0306")) is True)
case("grpc: unknown model", lambda: refused(lambda: run(over_grpc.infer(request("nope", False))), grpc.RpcError, "NOT_FOUND"))
finish()

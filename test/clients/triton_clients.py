"""Calls Warmpath with Triton's own clients. Prints one JSON line a case: {"case", "ok", "saw"}.

usage: triton_clients.py HTTP GRPC   (both host:port)
"""
import queue
import sys

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from tritonclient.utils import InferenceServerException

from cases import case, finish, refused

http_target, grpc_target = sys.argv[1:3]
ROW = np.array([[5.1, 3.5, 1.4, 0.2]], dtype=np.float32)
SETOSA = 0
http = over_http.InferenceServerClient(http_target)
grpc = over_grpc.InferenceServerClient(grpc_target)


def http_input(binary):
    tensor = over_http.InferInput("x", ROW.shape, "FP32")
    tensor.set_data_from_numpy(ROW, binary_data=binary)
    return [tensor]


def http_infer(model, binary=True, **more):
    outputs = [over_http.InferRequestedOutput("label", binary_data=binary)]
    return http.infer(model, http_input(binary), outputs=outputs, **more)


def grpc_infer(model, **more):
    tensor = over_grpc.InferInput("x", ROW.shape, "FP32")
    tensor.set_data_from_numpy(ROW)
    return grpc.infer(model, [tensor], **more)


def is_setosa(result):
    assert result.as_numpy("label").tolist() == [SETOSA], result.get_response()


case("http: server is live", lambda: http.is_server_live() is True)
case("http: server is ready", lambda: http.is_server_ready() is True)
case("http: server metadata", lambda: http.get_server_metadata()["name"] == "warmpath")
case("http: cold model is ready", lambda: http.is_model_ready("iris-t0100") is True)
case("http: unknown model is not ready", lambda: http.is_model_ready("nope") is False)
case("http: model metadata", lambda: http.get_model_metadata("iris-t0101")["inputs"][0]["shape"] == [-1, 4])
case("http: repository index", lambda: any(entry["name"] == "iris-t0101" for entry in http.get_model_repository_index()))
for attempt in ("cold", "warm"):
    case(f"http: {attempt} infer, binary", lambda: is_setosa(http_infer("iris-t0102")))
    case(f"http: {attempt} infer, JSON", lambda: is_setosa(http_infer("iris-t0103", False)))
    case(f"http: {attempt} infer, gzip", lambda: is_setosa(
        http_infer("iris-t0104", request_compression_algorithm="gzip", response_compression_algorithm="gzip")))
    case(f"http: {attempt} infer, deflate", lambda: is_setosa(http_infer("iris-t0105", request_compression_algorithm="deflate")))
    case(f"http: {attempt} infer, version", lambda: is_setosa(http_infer("iris-t0106", model_version="1")))
    case(f"http: {attempt} infer, query", lambda: is_setosa(http_infer("iris-t0107", query_params={"trace": 1})))
    case(f"http: {attempt} infer, request id", lambda: http_infer("iris-t0108", request_id="r-7").get_response()["id"] == "r-7")
case("http: answer names the model", lambda: http_infer("iris-t0108").get_response()["model_name"] == "iris-t0108")
case("http: unknown model", lambda: refused(lambda: http_infer("nope"), InferenceServerException, "404", "Model nope not found"))
case("http: load is unreachable", lambda: refused(lambda: http.load_model("iris-t0100"), InferenceServerException, "404"))
case("http: unload is unreachable", lambda: refused(lambda: http.unload_model("iris-t0100"), InferenceServerException, "404"))
case("http: trace settings are unreachable", lambda: refused(
    lambda: http.update_trace_settings("iris-t0100", {"trace_level": ["OFF"]}), InferenceServerException, "404"))
case("http: shared memory is unreachable", lambda: refused(
    lambda: http.register_system_shared_memory("a", "/a", 8), InferenceServerException, "404"))
case("http: log settings are unreachable", lambda: refused(lambda: http.get_log_settings(), InferenceServerException, "404"))

case("grpc: server is live", lambda: grpc.is_server_live() is True)
case("grpc: server is ready", lambda: grpc.is_server_ready() is True)
case("grpc: server metadata", lambda: grpc.get_server_metadata().name == "warmpath")
case("grpc: cold model is ready", lambda: grpc.is_model_ready("iris-t0200") is True)
case("grpc: unknown model", lambda: refused(lambda: grpc.is_model_ready("nope"), InferenceServerException, "NOT_FOUND"))
case("grpc: model metadata", lambda: list(grpc.get_model_metadata("iris-t0201").inputs[0].shape) == [-1, 4])
case("grpc: repository index", lambda: any(each.name == "iris-t0201" for each in grpc.get_model_repository_index().models))
for attempt in ("cold", "warm"):
    case(f"grpc: {attempt} infer", lambda: is_setosa(grpc_infer("iris-t0202")))
    case(f"grpc: {attempt} infer, version", lambda: is_setosa(grpc_infer("iris-t0203", model_version="1")))
    case(f"grpc: {attempt} infer, deadline", lambda: is_setosa(grpc_infer("iris-t0204", client_timeout=20)))
    case(f"grpc: {attempt} infer, mm-model-id", lambda: is_setosa(grpc_infer("iris-t0205", headers={"mm-model-id": "iris-t0205"})))
    case(f"grpc: {attempt} infer, mm-vmodel-id", lambda: is_setosa(grpc_infer("iris-t0206", headers={"mm-vmodel-id": "iris-t0206"})))
    case(f"grpc: {attempt} infer, the header wins over the message", lambda: is_setosa(
        grpc_infer("another", headers={"mm-model-id": "iris-t0207"})))


def streamed(model, **more):
    answers = queue.Queue()
    grpc.start_stream(lambda result, error: answers.put((result, error)), **more)
    try:
        tensor = over_grpc.InferInput("x", ROW.shape, "FP32")
        tensor.set_data_from_numpy(ROW)
        for number in range(3):
            try:
                grpc.async_stream_infer(model, [tensor], request_id=str(number))
            except InferenceServerException:
                # Refused already: why is told by the callback.
                break
        for number in range(3):
            result, error = answers.get(timeout=20)
            if error is not None:
                raise error
            is_setosa(result)
            assert result.get_response().id == str(number)
    finally:
        grpc.stop_stream(cancel_requests=True)


for attempt in ("cold", "warm"):
    case(f"grpc: {attempt} stream, named by mm-model-id", lambda: streamed("iris-t0208", headers={"mm-model-id": "iris-t0208"}))
case("grpc: stream of an unknown model", lambda: refused(
    lambda: streamed("nope", headers={"mm-model-id": "nope"}), InferenceServerException, "NOT_FOUND"))
for attempt in ("cold", "warm"):
    case(f"grpc: {attempt} stream, named only in its messages", lambda: streamed("iris-t0209"))
case("grpc: stream of an unknown model, named only in its messages", lambda: refused(
    lambda: streamed("nope"), InferenceServerException, "NOT_FOUND", "nope"))
case("grpc: answer names the model", lambda: grpc_infer("iris-t0202").get_response().model_name == "iris-t0202")
case("grpc: infer of an unknown model", lambda: refused(lambda: grpc_infer("nope"), InferenceServerException, "NOT_FOUND", "nope"))
case("grpc: load is unreachable", lambda: refused(lambda: grpc.load_model("iris-t0200"), InferenceServerException, "UNIMPLEMENTED"))
case("grpc: unload is unreachable", lambda: refused(lambda: grpc.unload_model("iris-t0200"), InferenceServerException, "UNIMPLEMENTED"))
finish()

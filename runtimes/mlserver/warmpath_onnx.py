"""ONNX models for MLServer: put this folder on the PYTHONPATH of MLServer, and onnxruntime into its environment.

Warmpath's adapter names it as the implementation of models of the format onnx.
"""
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse, MetadataTensor
from mlserver.utils import get_model_uri

DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}


class OnnxModel(MLModel):
    async def load(self) -> bool:
        path = await get_model_uri(self.settings, wellknown_filenames=["model.onnx"])
        options = onnxruntime.SessionOptions()
        # Many models share a process: no threads and no arena for each.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        self._session = onnxruntime.InferenceSession(path, options, providers=onnxruntime.get_available_providers())
        if not self.inputs:
            self.inputs = [_describe(tensor) for tensor in self._session.get_inputs()]
        if not self.outputs:
            self.outputs = [_describe(tensor) for tensor in self._session.get_outputs()]
        return True

    async def unload(self) -> bool:
        self._session = None
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        feeds = {tensor.name: _decode(tensor) for tensor in payload.inputs}
        wanted = [output.name for output in payload.outputs or []] or [output.name for output in self._session.get_outputs()]
        found = self._session.run(wanted, feeds)
        return InferenceResponse(
            model_name=self.name,
            model_version=self.version,
            outputs=[NumpyCodec.encode_output(name, value) for name, value in zip(wanted, found)],
        )


def _decode(tensor):
    if tensor.datatype != "BYTES":
        return NumpyCodec.decode_input(tensor)
    import numpy

    return numpy.array(StringCodec.decode_input(tensor), dtype=object).reshape(tensor.shape)


def _describe(tensor):
    shape = [size if isinstance(size, int) else -1 for size in tensor.shape or []]
    return MetadataTensor(name=tensor.name, datatype=DATATYPES.get(tensor.type, tensor.type), shape=shape)

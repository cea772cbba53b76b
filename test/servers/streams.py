"""A gRPC model server as most are: of a stream of requests it takes the model's name from each message, and no header.

It answers ModelStreamInfer and ModelInfer with the name that it was asked by, and an error for names that are none of its
models'. Its models are its arguments. Prints its port, then `asked NAME` for each message.
"""

import sys
from concurrent import futures

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

models = set(sys.argv[1:])


class Server(service_pb2_grpc.GRPCInferenceServiceServicer):
    def ModelStreamInfer(self, requests, context):
        for request in requests:
            name = request.model_name
            print("asked", name, flush=True)
            if name in models:
                answer = service_pb2.ModelInferResponse(model_name=name, id=request.id)
                yield service_pb2.ModelStreamInferResponse(infer_response=answer)
            else:
                yield service_pb2.ModelStreamInferResponse(error_message=f"Request for unknown model: '{name}' is not found")

    def ModelInfer(self, request, context):
        print("asked", request.model_name, flush=True)
        return service_pb2.ModelInferResponse(model_name=request.model_name, id=request.id)


server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", 64 << 20)])
service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Server(), server)
print("port", server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()

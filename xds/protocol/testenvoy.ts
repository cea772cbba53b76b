// Owns the Envoy that tests of the xDS server talk to: the client side of one stream, told what to say.
import { create } from "@bufbuild/protobuf";
import type { ClientDuplexStream, ServiceError } from "@grpc/grpc-js";
import type { ServiceClient } from "#platform/grpc.ts";
import { waitFor } from "#platform/testing.ts";
import type { AggregatedDiscoveryService } from "#proto/gen/envoy/service/discovery/v3/ads_pb.ts";
import {
  type DeltaDiscoveryRequest,
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
} from "#proto/gen/envoy/service/discovery/v3/discovery_pb.ts";

/** The client side of one stream, as Envoy does it. */
export class TestEnvoy {
  readonly responses: DeltaDiscoveryResponse[] = [];
  readonly call: ClientDuplexStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>;
  error: ServiceError | undefined;

  constructor(client: ServiceClient<typeof AggregatedDiscoveryService>, read = true) {
    this.call = client.deltaAggregatedResources({ timeoutMs: 20_000 });
    if (read) this.call.on("data", (response) => this.responses.push(response));
    this.call.on("error", (error) => {
      this.error = error as ServiceError;
    });
  }

  tell(request: Parameters<typeof create<typeof DeltaDiscoveryRequestSchema>>[1]): void {
    this.call.write(create(DeltaDiscoveryRequestSchema, request));
  }

  async response(index: number): Promise<DeltaDiscoveryResponse> {
    return waitFor(() => this.responses[index]);
  }

  ack(response: DeltaDiscoveryResponse, message?: string): void {
    const { typeUrl, nonce } = response;
    this.tell({ typeUrl, responseNonce: nonce, ...(message === undefined ? {} : { errorDetail: { code: 3, message } }) });
  }
}

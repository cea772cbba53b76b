// Owns the port of ModelMesh's management: its own, never an inference port.
import { Server } from "@grpc/grpc-js";
import { addService, bindServer, closeServer, type ServiceHandlers } from "#platform/grpc.ts";
import type { PemFiles } from "#platform/tls/pems.ts";
import { createServerCredentials } from "#platform/tls/provider.ts";
import { ModelMesh } from "#proto/gen/mmesh/model_mesh_pb.ts";

export interface ModelMeshOptions {
  readonly adminHost: string;
  readonly modelmeshPort?: number | undefined;
  /** That of the management API; plain text when absent. */
  readonly tls?: PemFiles | undefined;
}

const graceMs = 500;

/** Returns the port; undefined when none is asked for. */
export async function serveModelMesh(
  { adminHost, modelmeshPort, tls }: ModelMeshOptions,
  handlers: ServiceHandlers<typeof ModelMesh>,
  stack: AsyncDisposableStack,
): Promise<number | undefined> {
  if (modelmeshPort === undefined) return undefined;
  const server = new Server({ "grpc.max_receive_message_length": 1 << 20, "grpc.enable_channelz": 0 });
  addService(server, ModelMesh, handlers);
  const host = adminHost.includes(":") ? `[${adminHost}]` : adminHost;
  const port = await bindServer(server, `${host}:${modelmeshPort}`, tls && createServerCredentials(tls));
  stack.defer(() => closeServer(server, graceMs));
  return port;
}

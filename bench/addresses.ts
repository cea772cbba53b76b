// Owns what a benchmark asks of Envoy's admin interface: whether it listens, and which pod it routes to.
import { Client } from "undici";
import { z } from "zod";

export type Wire = "rest" | "grpc";

export interface SocketAddress {
  readonly host: string;
  readonly port: number;
}

export type PodAddress = Readonly<Record<Wire, SocketAddress>>;

const clustersSchema = z.object({
  cluster_statuses: z
    .array(
      z.object({
        name: z.string(),
        host_statuses: z
          .array(
            z.object({
              address: z.object({ socket_address: z.object({ address: z.string(), port_value: z.int() }).optional() }),
            }),
          )
          .default([]),
      }),
    )
    .default([]),
});

/** The one pod in Envoy's clusters, from the answer of its admin interface; undefined before there is one. */
export function parsePodAddress(clusters: unknown): PodAddress | undefined {
  const { cluster_statuses } = clustersSchema.parse(clusters);
  const find = (wire: Wire): SocketAddress | undefined => {
    const cluster = cluster_statuses.find(({ name }) => name.startsWith("pod-") && name.endsWith(`-${wire}`));
    const socket = cluster?.host_statuses[0]?.address.socket_address;
    return socket === undefined ? undefined : { host: socket.address, port: socket.port_value };
  };
  const rest = find("rest");
  const grpc = find("grpc");
  return rest === undefined || grpc === undefined ? undefined : { rest, grpc };
}

/** Undefined while Envoy does not answer or knows no pod. */
export async function askPodAddress(adminSocket: string): Promise<PodAddress | undefined> {
  const answer = await askAdmin(adminSocket, "/clusters?format=json");
  return answer === undefined ? undefined : parsePodAddress(JSON.parse(answer));
}

/** Whether Envoy has its first configuration and listens. */
export async function isListening(adminSocket: string): Promise<boolean> {
  return (await askAdmin(adminSocket, "/ready")) !== undefined;
}

async function askAdmin(adminSocket: string, path: string): Promise<string | undefined> {
  const client = new Client("http://envoy", { socketPath: adminSocket, headersTimeout: 2_000, bodyTimeout: 2_000 });
  try {
    const { statusCode, body } = await client.request({ path, method: "GET" });
    const text = await body.text();
    return statusCode === 200 ? text : undefined;
  } catch {
    // It may be starting: the next question tells.
    return undefined;
  } finally {
    await client.destroy();
  }
}

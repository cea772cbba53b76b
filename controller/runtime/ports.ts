// Owns which ports of a runtime's pods are the adapter's: never one on which the author's containers listen. Pure.
//
// All containers of a pod share its ports. Those that ModelMesh's own containers took, a model server that ran beside them does
// not listen on, whether it declares what it listens on or not: beside a custom one, of which nothing else is known, the
// adapter takes one of these.
import { list, record } from "../engine/objects.ts";
import { portOf, type Runtime } from "./runtime.ts";

export interface Ports {
  /** Where gateways find the adapter. */
  readonly link: number;
  /** Where it tells its metrics, and containers ask whether they may end. */
  readonly metrics: number;
}

const usual: Ports = { link: 8085, metrics: 2112 };
const ofModelMesh = [8089, 8090, 8033, 8008];
const firstOther = 18_085;

type Listening = Pick<
  Runtime,
  "serverType" | "grpcEndpoint" | "grpcDataEndpoint" | "httpDataEndpoint" | "managementPort" | "containers"
>;

/** `bound`: where requests reach the model server. */
export function choosePorts(runtime: Listening, bound: readonly number[]): Ports {
  const isCustom = runtime.serverType === "custom";
  // Beside a built-in adapter, grpcEndpoint is the adapter's own.
  const endpoints = [runtime.grpcDataEndpoint, runtime.httpDataEndpoint, isCustom ? runtime.grpcEndpoint : undefined];
  const taken = new Set([
    ...bound,
    ...endpoints.map(portOf),
    runtime.managementPort,
    ...runtime.containers.flatMap(portsOfContainer),
  ]);
  const choose = (candidates: readonly number[]): number => {
    let port = candidates.find((candidate) => !taken.has(candidate)) ?? firstOther;
    while (taken.has(port)) port += 1;
    taken.add(port);
    return port;
  };
  const link = choose(isCustom ? [...ofModelMesh, usual.link] : [usual.link, ...ofModelMesh]);
  return { link, metrics: choose([usual.metrics, ...ofModelMesh]) };
}

/** Those that it declares, and those where it wants to be probed. */
function portsOfContainer(container: Readonly<Record<string, unknown>>): readonly unknown[] {
  const probes = ["livenessProbe", "readinessProbe", "startupProbe"].map((name) => record(container[name]));
  return [
    ...list(container["ports"]).map((port) => record(port)["containerPort"]),
    ...probes.flatMap((probe) => ["httpGet", "tcpSocket", "grpc"].map((way) => record(probe[way])["port"])),
  ];
}

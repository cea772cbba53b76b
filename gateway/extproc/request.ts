// Owns what a miss asks for: read from its headers alone, after Envoy's naming filter. Pure.
// Whatever is no inference call, or names no model unmistakably, is refused here and never reaches a model server.
import type { ErrorCode } from "#core/errors.ts";
import { type ModelName, type Priority, parseModelName, priorities } from "#core/model.ts";
import { headers as own, priorityHeader, serverPaths } from "#envoy/names.ts";

/** `index-ready`: of warm models alone. */
export type ServerCall = "live" | "ready" | "metadata" | "index" | "index-ready" | "list";

export interface InferRequest {
  readonly kind: "infer";
  readonly model: ModelName;
  readonly wire: "rest" | "grpc";
  /** With its query. */
  readonly path: string;
  /** The client's own limit, if it gave one. */
  readonly timeoutMs: number | undefined;
  /** Of its load among others; the model's own when the client gave none. */
  readonly priority: Priority | undefined;
}

export type MissRequest =
  | InferRequest
  /** About this server rather than a model; answered by the gateway. */
  | { readonly kind: "server"; readonly what: ServerCall }
  | { readonly kind: "refused"; readonly wire: "rest" | "grpc"; readonly code: ErrorCode; readonly reason: string };

const rest =
  /^\/v2\/models\/([^/]*)(?:\/versions\/[A-Za-z0-9._-]+)?(?:\/(?:infer|ready|config|stats|generate|generate_stream))?$/;
const v1 = /^\/v1\/models\/([^/:]*)(?:\/?:(?:predict|explain))?$/;
/** As the naming filter writes it, and as it leaves it when the body names no model. */
const openai = /^\/openai\/models\/([^/]*)\/v1\/(?:chat\/completions|completions|embeddings)$/;
const openaiCall = /^(?:\/openai)?\/v1\/(?:chat\/completions|completions|embeddings)$/;
const grpcService = "/inference.GRPCInferenceService/";
const grpcMethods = new Set(["ModelInfer", "ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics", "ModelStreamInfer"]);

/** Services of model servers and of ours that are no inference. */
const closed = ["/mmesh.", "/grpc.", "/envoy.", "/warmpath."];
const grpcMethod = /^\/[A-Za-z_][A-Za-z0-9_.]*\/[A-Za-z_][A-Za-z0-9_]*$/;

const server: Readonly<Record<(typeof serverPaths)[number], ServerCall>> = {
  "/v2": "metadata",
  "/v2/": "metadata",
  "/v2/health/live": "live",
  "/v2/health/ready": "ready",
  "/v2/repository/index": "index",
  "/v1/models": "list",
  "/": "live",
};

/**
 * A request that comes again by the reroute listener: its path has the form for the model server, where NAME~SLOT names the
 * revision that failed, and our own headers say the rest.
 */
export function parseReroute(headers: ReadonlyMap<string, string>): MissRequest {
  const path = headers.get(":path") ?? "";
  const named = headers.get(own.model);
  const plain = path.replace(/^(\/v[12]\/models\/[^/:~]+)~\d+/, "$1");
  const known =
    named !== undefined && openaiCall.test(path) ? new Map([...headers, [":path", `/openai/models/${named}${path}`]]) : headers;
  const request = parseMiss(plain === path ? known : new Map([...headers, [":path", plain]]), []);
  return request.kind === "infer" ? { ...request, path: request.path.replace(/^\/openai\/models\/[^/]+/, "") } : request;
}

/** How a request came to be rerouted. */
export interface Rerouting {
  /** The cluster where it failed, or where its first try still is. */
  readonly from: string;
  /** The first try has said nothing yet, and goes on. */
  readonly isHedge: boolean;
}

export function parseRerouting(headers: ReadonlyMap<string, string>): Rerouting {
  return { from: headers.get(own.from) ?? "", isHedge: headers.get(own.isHedge) === "true" };
}

/** `repeated`: names of headers that came more than once. `port`: what the port is for that it came by, if that is to be minded. */
export function parseMiss(
  headers: ReadonlyMap<string, string>,
  repeated: readonly string[],
  port?: "rest" | "grpc",
): MissRequest {
  const grpc = headers.get("content-type")?.startsWith("application/grpc") === true;
  const wire = grpc ? "grpc" : "rest";
  const priority = parsePriority(headers.get(priorityHeader));
  if (priority === "bad") return refused(wire, "invalid-request", `${priorityHeader} must be one of ${priorities.join(", ")}`);
  if (repeated.some((name) => name.startsWith("mm-"))) {
    return { kind: "refused", wire, code: "invalid-request", reason: "the model is named more than once in the headers" };
  }
  if (grpc && port === "rest") return refused(wire, "unsupported-method", "this port is for REST; gRPC has a port of its own");
  const request = grpc ? parseGrpc(headers) : parseRest(headers);
  // What asks about the server is answered on either, for who probes a port.
  if (port === "grpc" && request.kind === "infer" && !grpc)
    return refused(wire, "unsupported-method", "this port is for gRPC; REST has a port of its own");
  return request.kind === "infer" ? { ...request, priority } : request;
}

function parseRest(headers: ReadonlyMap<string, string>): MissRequest {
  const [path = "", query] = (headers.get(":path") ?? "").split("?", 2);
  const timeoutMs = parseTimeoutHeader(headers.get("x-request-timeout-ms"));
  if (timeoutMs === "bad")
    return refused("rest", "invalid-request", "x-request-timeout-ms must be a whole number of milliseconds");
  const asked = serverPaths.find((each) => each === path);
  const what = asked === undefined ? undefined : server[asked];
  if (what === "index" && query === "ready=true") return { kind: "server", what: "index-ready" };
  if (what !== undefined) return { kind: "server", what };
  const badName = headers.get(own.badName);
  if (badName !== undefined) return infer("rest", path, decode(badName), timeoutMs);
  if (openaiCall.test(path))
    return refused("rest", "invalid-request", "the body must be a JSON object that names one model as text");
  const named = headers.has(own.model) ? openai.exec(path)?.[1] : undefined;
  const found = named ?? rest.exec(path)?.[1] ?? v1.exec(path)?.[1];
  if (found === undefined) return refused("rest", "unsupported-method", "this path is no inference call");
  return infer("rest", headers.get(":path") ?? "", decode(found), timeoutMs);
}

function parseGrpc(headers: ReadonlyMap<string, string>): MissRequest {
  const path = headers.get(":path") ?? "";
  const timeoutMs = parseGrpcTimeout(headers.get("grpc-timeout"));
  if (timeoutMs === "bad") return refused("grpc", "invalid-request", "grpc-timeout is malformed");
  if (!mayPass(path)) return refused("grpc", "unsupported-method", "this method is no inference call");
  if (has(headers, "mm-model-id") && has(headers, "mm-vmodel-id")) {
    return refused("grpc", "invalid-request", "mm-model-id and mm-vmodel-id exclude each other");
  }
  const badName = headers.get(own.badName);
  if (badName !== undefined) return infer("grpc", path, decode(badName), timeoutMs);
  const named = headers.get(own.publicName) ?? headers.get(own.model);
  if (named !== undefined) return infer("grpc", path, named, timeoutMs);
  const inMessage = path.startsWith(grpcService);
  const why = inMessage ? "the message is malformed or names no model" : "such a call names its model in mm-model-id";
  return refused("grpc", "invalid-request", why);
}

/** Any unary or streaming method of any service that models may have; but of V2 only inference, of the runtimes' own none. */
function mayPass(path: string): boolean {
  if (path.startsWith(grpcService)) return grpcMethods.has(path.slice(grpcService.length));
  return grpcMethod.test(path) && !closed.some((prefix) => path.startsWith(prefix));
}

function has(headers: ReadonlyMap<string, string>, name: string): boolean {
  return headers.has(name) || headers.has(`${name}-bin`);
}

function infer(wire: "rest" | "grpc", path: string, name: string | undefined, timeoutMs: number | undefined): MissRequest {
  const parsed = parseModelName(name);
  if (parsed.kind === "refused") return refused(wire, "invalid-name", parsed.reason);
  return { kind: "infer", model: parsed.name, wire, path, timeoutMs, priority: undefined };
}

function refused(wire: "rest" | "grpc", code: ErrorCode, reason: string): MissRequest {
  return { kind: "refused", wire, code, reason };
}

/** So that the reason speaks of the character meant, not of its escape. */
function decode(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}

function parseTimeoutHeader(text: string | undefined): number | undefined | "bad" {
  if (text === undefined) return undefined;
  return /^\d{1,9}$/.test(text) ? Number(text) : "bad";
}

function parsePriority(text: string | undefined): Priority | undefined | "bad" {
  return text === undefined ? undefined : (priorities.find((known) => known === text) ?? "bad");
}

const grpcUnits: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 1e-3, n: 1e-6 };

/** https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md: at most 8 digits and a unit. */
function parseGrpcTimeout(text: string | undefined): number | undefined | "bad" {
  if (text === undefined) return undefined;
  const found = /^(\d{1,8})([HMSmun])$/.exec(text);
  return found === null ? "bad" : Number(found[1]) * (grpcUnits[found[2] ?? ""] ?? 1);
}

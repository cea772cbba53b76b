// Owns the names that the bootstrap, the xDS resources and the gateway must agree on. Envoy knows nothing else of us.

/** Of all headers of ours: what a client sends under this prefix is taken away at the edge. */
export const headerPrefix = "x-warm-";

/** Of a gRPC answer, in its trailers; of one that is nothing but an error, among its headers. */
export const grpcStatus = "grpc-status";

/** Request and response headers of ours. */
export const headers = {
  /** The model's name, on the gRPC port, where no path holds it; the scope key there. */
  model: "x-warm-model",
  /** The naming filter found no route for a model: the filters of a miss are made. */
  miss: "x-warm-miss",
  /** Instead of it, percent-encoded, when the name found breaks the naming rule. */
  badName: "x-warm-bad-name",
  /** The model's public name, where x-warm-model holds an entry instead. */
  publicName: "x-warm-public-name",
  /** On the reroute listener: what the revision is called on the chosen pod, when the message or body must say so. */
  serverName: "x-warm-server-name",
  /** On the reroute listener: where in the message of another service the name belongs, such as `1.1`. */
  inject: "x-warm-inject",
  /** On the answer to a request that waited: milliseconds from its arrival at the gateway until its route was live. */
  loadMs: "x-warm-load-ms",
  /** On internal listeners: the cluster that gets the request; on the reroute listener the gateway's choice. */
  cluster: "x-warm-cluster",
  /** On the reroute listener: the cluster of the placement set that the request comes from. */
  from: "x-warm-from",
  /** Envoy's own, on the reroute listener: "true" when the first try has said nothing yet and goes on. */
  isHedge: "x-envoy-is-timeout-retry",
  /** On the mirror listener: the slot of the revision that gets the request. */
  slot: "x-warm-slot",
  /** On an answer, until the naming filter takes it away: what holds the public name that the answer must say. */
  answerName: "x-warm-answer-name",
  /** Who calls, as proved; part of the scope key where callers must prove who they are. */
  principal: "x-warm-principal",
  /** The principal that a token names, between the filter that checks tokens and the one behind it. */
  claim: "x-warm-claim",
  /** As `principal`, on calls about the server, whose scope is everybody's. */
  caller: "x-warm-caller",
  /** On its way to a pod that speaks gRPC alone: what a call over REST was, for a second try. */
  restCall: "x-warm-rest-call",
  /** A model server says that it does not hold the model; or it is `leftToFirst`. */
  notHere: "x-warm-not-here",
} as const;

/** In `notHere`, on what a hedge is answered: the first try goes on, and has the word. */
export const leftToFirst = "left";

/** A client says how urgent its request is while models load: `high`, `normal` or `low`. */
export const priorityHeader = "x-request-priority";

/** HTTP filters, by the names that per-route settings refer to. */
export const filters = {
  keys: "warm.keys",
  jwt: "warm.jwt",
  claim: "warm.claim",
  limit: "warm.limit",
  naming: "warm.naming",
  miss: "warm.miss",
  origin: "warm.origin",
  reroute: "warm.reroute",
  mark: "warm.mark",
  slot: "warm.slot",
  mirror: "warm.mirror",
  translate: "warm.translate",
} as const;

/** Metadata of an ext_proc stream: `miss` or `reroute`; and, of a miss, what its port is for: `rest` or `grpc`. */
export const askedBy = { filter: "x-warm-filter", port: "x-warm-port" } as const;

/** Static clusters of the bootstrap. */
export const clusters = {
  /** Of traces; only where there is a collector. */
  otlp: "warm-otlp",
  gateway: "warm-gateway",
  extProc: "warm-ext-proc",
  reroute: "warm-reroute",
  mirror: "warm-mirror",
  health: "warm-health",
  healthAnswer: "warm-health-answer",
} as const;

/** The internal listener that a request enters when no pod of its placement set could answer. */
export const rerouteListener = "warm-reroute";

/** The internal listener that copies of requests enter, on their way to the revision that mirrors. */
export const mirrorListener = "warm-mirror";

/** The internal listeners that answer gRPC's health check. */
export const healthListener = "warm-health";
export const healthAnswerListener = "warm-health-answer";

/** gRPC's health check, which Envoy answers; naming-grpc.lua knows it too. */
export const healthCheck = "/grpc.health.v1.Health/Check";

/** The scoped routes that all listeners share; one name, so that Envoy keeps one table for them. */
export const scopedRoutes = "warm-models";

/** Runtime key, in millionths: the share of requests whose access log goes to the gateway. */
export const usageSampleKey = "warm.usage_sample";
/** The runtime layer (RTDS resource) that holds it. */
export const runtimeLayer = "warm-runtime";

/** Name of the access log, by which the gateway tells its own entries. */
export const usageLog = "warm-usage";

/** gRPC methods about the server, which the gateway answers; naming-grpc.lua knows them too. */
export const serverMethods = ["ServerLive", "ServerReady", "ServerMetadata", "RepositoryIndex"] as const;

/** Paths about the server over REST, which the gateway answers to everybody. */
export const serverPaths = [
  "/",
  "/v1/models",
  "/v2",
  "/v2/",
  "/v2/health/live",
  "/v2/health/ready",
  "/v2/repository/index",
] as const;

/** Their scope key: no model's name begins with a slash. */
export const serverScope = "/server";

/** The principal in the keys of scopes that no caller can name: entries, and the server's own. */
export const entryPrincipal = "~";

/** How the names of those clusters begin from which nothing that failed is rerouted any more. */
export const lastPrefix = "last-";

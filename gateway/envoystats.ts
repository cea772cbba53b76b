// Owns the counters that only Envoy has: how many requests came, and how many of them it asked us about. A hit is a
// request that Envoy did not ask about, and no health check.
import { openEnvoyAdmin } from "./envoyadmin.ts";
import { createHitCount } from "./hitcount.ts";

export type EnvoyPort = "http" | "grpc";

export interface PortCounts {
  readonly requests: number;
  readonly asked: number;
  /** gRPC's health check, which Envoy answers. */
  readonly healthChecks: number;
  /** In hand now. */
  readonly active: number;
  /** By class of status: `2xx`. */
  readonly responses: Readonly<Record<string, number>>;
}

export interface EnvoyCounts {
  readonly ports: Readonly<Record<EnvoyPort, PortCounts>>;
  /** Inference ports, all requests. */
  readonly requests: number;
  /** Requests for which an ext_proc stream was opened. */
  readonly asked: number;
  readonly extProcErrors: number;
  /** Requests refused for their tenant's requests per second. */
  readonly limited: number;
}

/** `hits`: since this gateway began. */
export type EnvoyReading = EnvoyCounts & { readonly hits: number };

export interface EnvoyStats extends AsyncDisposable {
  /** Undefined while Envoy does not answer. */
  read(): Promise<EnvoyReading | undefined>;
}

const filter =
  "^http\\.warm_(http|grpc|reroute)\\.(downstream_rq_(total|active|[1-5]xx)$|ext_proc\\.)|^http\\.warm_health\\.downstream_rq_total$|warm_limit\\.http_local_rate_limit\\.rate_limited$";

export function openEnvoyStats(adminSocket: string): EnvoyStats {
  const client = openEnvoyAdmin(adminSocket);
  const hitCount = createHitCount();
  const read = async (): Promise<EnvoyReading | undefined> => {
    try {
      const { body, statusCode } = await client.request({ path: `/stats?filter=${encodeURIComponent(filter)}`, method: "GET" });
      const text = await body.text();
      const counts = statusCode === 200 ? parseStats(text) : undefined;
      const hits = hitCount.read(counts === undefined ? undefined : { requests: counts.requests, asked: noHits(counts) });
      return counts === undefined || hits === undefined ? undefined : { ...counts, hits };
    } catch (error) {
      // It may be starting or restarting; the next reading tells.
      hitCount.read(isAbsence(error) ? "absent" : undefined);
      return undefined;
    }
  };
  // What it counted for a gateway before this one.
  void read();
  return {
    read,
    async [Symbol.asyncDispose]() {
      await client.destroy();
    },
  };
}

/** Nobody listens there. */
function isAbsence(error: unknown): boolean {
  return error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ECONNREFUSED");
}

export function parseStats(text: string): EnvoyCounts {
  const ports = { http: emptyCounts(), grpc: emptyCounts() };
  let extProcErrors = 0;
  let limited = 0;
  for (const line of text.split("\n")) {
    const [name = "", value = "0"] = line.split(": ");
    const count = Number(value);
    if (!Number.isFinite(count)) continue;
    const found = /^http\.warm_(?<port>http|grpc)\.(?:downstream_rq_(?<what>\w+)|.*(?<asked>streams_started))$/.exec(
      name,
    )?.groups;
    if (name.endsWith("warm_limit.http_local_rate_limit.rate_limited")) limited += count;
    else if (name === "http.warm_health.downstream_rq_total") ports.grpc.healthChecks += count;
    else if (found?.["port"] === "http" || found?.["port"] === "grpc") {
      const port = ports[found["port"]];
      const { what } = found;
      if (found["asked"] !== undefined) port.asked += count;
      else if (what === "total") port.requests += count;
      else if (what === "active") port.active += count;
      else if (what !== undefined) port.responses[what] = count;
    } else if (/(streams_failed|stream_open_failures|message_timeouts|http_not_ok_resp_received)$/.test(name)) {
      extProcErrors += count;
    }
  }
  const { http, grpc } = ports;
  return { ports, requests: http.requests + grpc.requests, asked: http.asked + grpc.asked, extProcErrors, limited };
}

/** Requests that Envoy asked about, and health checks. */
function noHits({ asked, ports }: EnvoyCounts): number {
  return asked + ports.grpc.healthChecks;
}

export function hitsOf({ requests, asked, healthChecks }: PortCounts): number {
  return Math.max(0, requests - asked - healthChecks);
}

function emptyCounts(): { -readonly [K in keyof PortCounts]: PortCounts[K] } & { responses: Record<string, number> } {
  return { requests: 0, asked: 0, healthChecks: 0, active: 0, responses: {} };
}

// Owns the counters that only Envoy has: how many requests came, and how many of them it asked us about. A hit is a
// request that Envoy did not ask about.
import { Client } from "undici";

export interface EnvoyCounts {
  /** Inference ports, all requests. */
  readonly requests: number;
  /** Requests for which an ext_proc stream was opened. */
  readonly asked: number;
  readonly extProcErrors: number;
}

export interface EnvoyStats extends AsyncDisposable {
  /** Undefined while Envoy does not answer. */
  read(): Promise<EnvoyCounts | undefined>;
}

const filter = "^http\\.warm_(http|grpc|reroute)\\.(downstream_rq_total|ext_proc\\.)";

export function openEnvoyStats(adminSocket: string): EnvoyStats {
  const client = new Client("http://envoy", { socketPath: adminSocket, headersTimeout: 1_000, bodyTimeout: 1_000 });
  return {
    async read() {
      try {
        const { body, statusCode } = await client.request({ path: `/stats?filter=${encodeURIComponent(filter)}`, method: "GET" });
        const text = await body.text();
        return statusCode === 200 ? parseStats(text) : undefined;
      } catch {
        // It may be starting or restarting; the next reading tells.
        return undefined;
      }
    },
    async [Symbol.asyncDispose]() {
      await client.destroy();
    },
  };
}

function parseStats(text: string): EnvoyCounts {
  let requests = 0;
  let asked = 0;
  let extProcErrors = 0;
  for (const line of text.split("\n")) {
    const [name = "", value = "0"] = line.split(": ");
    const count = Number(value);
    if (!Number.isFinite(count)) continue;
    if (/^http\.warm_(http|grpc)\.downstream_rq_total$/.test(name)) requests += count;
    else if (/^http\.warm_(http|grpc)\..*streams_started$/.test(name)) asked += count;
    else if (/(streams_failed|stream_open_failures|message_timeouts|http_not_ok_resp_received)$/.test(name))
      extProcErrors += count;
  }
  return { requests, asked, extProcErrors };
}

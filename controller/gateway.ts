// Owns the calls to a gateway's management API: what it knows of a model, of its pods, and to load a model. Any gateway
// will do, since each knows every copy.
// Invariants: what a gateway answers is parsed, not believed; every call has a deadline; a gateway that does not answer is
// told apart from one that refuses.
import { readFileSync } from "node:fs";
import { Agent, buildConnector, request } from "undici";
import { z } from "zod";
import { type ErrorCode, isErrorCode } from "#core/errors.ts";
import { parseJson } from "#platform/json.ts";
import type { CopySeen } from "./model/view.ts";

export type Described =
  | { readonly kind: "known"; readonly active: string; readonly target: string | undefined; readonly copies: readonly CopySeen[] }
  | { readonly kind: "unknown" }
  | { readonly kind: "unreachable"; readonly reason: string };

export type Loaded =
  | { readonly kind: "live" }
  | { readonly kind: "failed"; readonly code: ErrorCode; readonly reason: string; readonly retryAfterMs: number | undefined };

export interface PodSeen {
  readonly podId: string;
  readonly runtime: string;
  readonly reachable: boolean;
  readonly draining: boolean;
  readonly requestsPerSecond: number;
  readonly queued: number;
  readonly loading: number;
  readonly capacityBytes: number;
  readonly usedBytes: number;
  readonly oldestIdleMs: number;
  readonly evictions: number;
}

export interface GatewayClient extends AsyncDisposable {
  describe(name: string): Promise<Described>;
  /** Whether the clients of every gateway are answered by this revision; false when that cannot be known. */
  isSettled(name: string, active: string): Promise<boolean>;
  /** Resolves when the model is loaded, or will not be. */
  load(name: string, signal: AbortSignal): Promise<Loaded>;
  /** Undefined when no gateway answers. */
  pods(): Promise<readonly PodSeen[] | undefined>;
}

const callMs = 10_000;
const loadMs = 900_000;
const maxConnections = 64;
const maxAnswerBytes = 16 << 20;

const described = z.object({
  active: z.string(),
  target: z.string().nullish(),
  copies: z.array(
    z.object({
      pod: z.string(),
      revision: z.string(),
      state: z.string(),
      failure: z.object({ reason: z.string() }).nullish(),
    }),
  ),
});

const settled = z.object({ settled: z.boolean() });

const podList = z.object({
  pods: z.array(
    z.object({
      podId: z.string(),
      runtime: z.string(),
      reachable: z.boolean().default(true),
      draining: z.boolean().default(false),
      requestsPerSecond: z.number().default(0),
      queued: z.number().default(0),
      loading: z.number().default(0),
      capacityBytes: z.number().default(0),
      usedBytes: z.number().default(0),
      oldestIdleMs: z.number().default(0),
      evictions: z.number().default(0),
    }),
  ),
});

const refusal = z.object({ error: z.string(), code: z.string() });

export interface GatewayClientOptions {
  /** Of the gateways, or of a Service in front of them. */
  readonly urls: readonly string[];
  /** Read anew for each call. */
  readonly token: () => Promise<string | undefined>;
  /** PEM file of the authorities to trust; read anew for each connection. */
  readonly caFile?: string | undefined;
}

export function createGatewayClient({ urls, token, caFile }: GatewayClientOptions): GatewayClient {
  const agent = new Agent({
    connections: maxConnections,
    headersTimeout: 0,
    bodyTimeout: 0,
    ...(caFile === undefined ? {} : { connect: trusting(caFile) }),
  });
  let turn = 0;

  async function call(
    method: "GET" | "POST",
    path: string,
    signal: AbortSignal,
  ): Promise<{ status: number; headers: Readonly<Record<string, unknown>>; body: unknown }> {
    turn += 1;
    const base = urls[turn % urls.length] ?? "";
    const credential = await token();
    const answer = await request(`${base}${path}`, {
      method,
      dispatcher: agent,
      headers: { accept: "application/json", ...(credential === undefined ? {} : { authorization: `Bearer ${credential}` }) },
      signal,
    });
    const chunks: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of answer.body as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > maxAnswerBytes) throw new Error("the gateway answers with too much");
      chunks.push(chunk);
    }
    return { status: answer.statusCode, headers: answer.headers, body: parseJson(Buffer.concat(chunks).toString("utf8")) };
  }

  return {
    async describe(name) {
      try {
        const { status, body } = await call("GET", `/api/v1/models/${encodeURIComponent(name)}`, AbortSignal.timeout(callMs));
        if (status === 404) return { kind: "unknown" };
        const parsed = described.safeParse(body);
        if (status !== 200 || !parsed.success) return { kind: "unreachable", reason: `the gateway answered with HTTP ${status}` };
        const { active, target, copies } = parsed.data;
        return {
          kind: "known",
          active,
          target: target ?? undefined,
          copies: copies.map(({ pod, revision, state, failure }) => ({ podId: pod, revision, state, failure: failure?.reason })),
        };
      } catch (error) {
        return { kind: "unreachable", reason: error instanceof Error ? error.message : "no answer" };
      }
    },
    async isSettled(name, active) {
      try {
        const path = `/api/v1/models/${encodeURIComponent(name)}/settled?revision=${encodeURIComponent(active)}`;
        const { status, body } = await call("GET", path, AbortSignal.timeout(callMs));
        return status === 200 && settled.safeParse(body).data?.settled === true;
      } catch {
        return false;
      }
    },
    async load(name, signal) {
      try {
        const both = AbortSignal.any([signal, AbortSignal.timeout(loadMs)]);
        const { status, headers, body } = await call("POST", `/api/v1/models/${encodeURIComponent(name)}/load`, both);
        if (status === 200) return { kind: "live" };
        const parsed = refusal.safeParse(body);
        const code = parsed.success && isErrorCode(parsed.data.code) ? parsed.data.code : "unavailable";
        const seconds = Number(headers["retry-after"]);
        return {
          kind: "failed",
          code,
          reason: parsed.success ? parsed.data.error : `the gateway answered with HTTP ${status}`,
          retryAfterMs: Number.isFinite(seconds) && seconds > 0 ? seconds * 1_000 : undefined,
        };
      } catch (error) {
        const reason = error instanceof Error ? error.message : "no answer";
        return { kind: "failed", code: signal.aborted ? "cancelled" : "unavailable", reason, retryAfterMs: undefined };
      }
    },
    async pods() {
      try {
        const { status, body } = await call("GET", "/api/v1/pods", AbortSignal.timeout(callMs));
        const parsed = podList.safeParse(body);
        return status === 200 && parsed.success ? parsed.data.pods : undefined;
      } catch {
        return undefined;
      }
    },
    [Symbol.asyncDispose]: () => agent.destroy(),
  };
}

/** No session is taken up again: that would be trust by an authority of before. */
function trusting(caFile: string): buildConnector.connector {
  return (options, done) => {
    let ca: string;
    try {
      ca = readFileSync(caFile, "utf8");
    } catch (cause) {
      done(new Error(`the authorities' file ${caFile} cannot be read`, { cause }), null);
      return;
    }
    buildConnector({ ca, maxCachedSessions: 0 })(options, done);
  };
}

// Owns how an installation is called that asks callers who they are: each gateway by itself or through the Service, over TLS, by
// keys of principals; and the management API by accounts of the cluster.
import assert from "node:assert/strict";
import { type ChannelOptions, credentials, Metadata, status } from "@grpc/grpc-js";
import { Agent, request } from "undici";
import { parseAnswer, refuteAnswer } from "#cli/library/answer.ts";
import { createRandom } from "#cli/library/random.ts";
import { buildInferRequest, readOutputs } from "#cli/traffic/grpc.ts";
import { createClient } from "#platform/grpc.ts";
import { GRPCInferenceService } from "#proto/gen/inference/open_inference_pb.ts";
import { waitUntil } from "#test/harness/wait.ts";
import type { Installation } from "../harness/installation.ts";
import type { KubeValue } from "../harness/kubectl.ts";
import { podsMs } from "./installed.ts";

export const servingHost = "modelmesh-serving.models";
export const component = (name: string): string => `app.kubernetes.io/component=${name}`;
export const gateways = component("gateway");
export const runtimePods = "warmpath.dev/runtime=onnx";

export interface Place {
  readonly host: string;
  readonly port: number;
}

export type ServingClient = ReturnType<typeof createClient<typeof GRPCInferenceService>>;

export interface Told {
  readonly status: number;
  readonly text: string;
}

export interface Callers extends AsyncDisposable {
  readonly it: Installation;
  /** Makes an account that may look or change, and knows its token by its name from now on. */
  addAccount(account: string, role: "read" | "write"): Promise<void>;
  /** Known by its principal from now on. */
  keepKey(principal: string, key: string): void;
  /** Of pods that are ready and are to stay. */
  addressesOf(selector: string): Promise<readonly string[]>;
  twoGateways(): Promise<readonly string[]>;
  manage(address: string, account: string | undefined, path: string, body?: unknown): Promise<Told>;
  /** "right", or what was answered instead. */
  askRest(at: Place, principal: string | undefined, dispatcher?: Agent): Promise<string>;
  askGrpc(channel: ServingClient, principal: string | undefined): Promise<string>;
  askGrpcOnce(at: Place, principal: string | undefined): Promise<string>;
  /** Of clients who keep their connections and never ask twice: what they were told while `change` came about. */
  tellUnderLoad(change: () => Promise<void>): Promise<{ readonly told: ReadonlyMap<string, number>; readonly summary: string }>;
  /** Waits until two others are there, and nothing else. */
  replaced(selector: string, gone: readonly string[]): Promise<void>;
  namesOf(selector: string): Promise<readonly string[]>;
}

/** `model`: the one that is called. */
export async function openCallers(it: Installation, model: string): Promise<Callers> {
  await using stack = new AsyncDisposableStack();
  const random = createRandom("callers");
  const tokens = new Map<string, string>();
  const keys = new Map<string, string>();
  const agentFor = async (secret: string, servername: string): Promise<readonly [Agent, Buffer]> => {
    const ca = (await it.secret(secret))["ca.crt"] ?? "";
    // A connection for each request: it may go to another gateway than the one before.
    const agent = new Agent({ connect: { ca, servername, timeout: podsMs }, pipelining: 0 });
    return [stack.adopt(agent, (made) => made.destroy()), Buffer.from(ca)];
  };
  const [serving, servingCa] = await agentFor("warmpath-serving", servingHost);
  const [management] = await agentFor("warmpath-management-tls", "warmpath-management");

  const addressesOf: Callers["addressesOf"] = async (selector) =>
    (await it.pods(selector)).flatMap(({ metadata, status: seen }) =>
      metadata.deletionTimestamp === undefined && isReady(seen) ? [String(seen.podIP)] : [],
    );

  const askRest: Callers["askRest"] = async (at, principal, dispatcher = serving) => {
    const { body, expect } = it.oracle.sampleCase(model, random);
    const key = principal === undefined ? undefined : (keys.get(principal) ?? principal);
    const answer = await request(`https://${at.host}:${at.port}/v2/models/${model}/infer`, {
      dispatcher,
      method: "POST",
      headers: { "content-type": "application/json", ...(key === undefined ? {} : { "x-api-key": key }) },
      body: JSON.stringify(body),
      headersTimeout: podsMs,
    });
    const text = await answer.body.text();
    if (answer.statusCode !== 200) return `${answer.statusCode}`;
    return refuteAnswer(expect, parseAnswer(JSON.parse(text)) ?? []) ?? "right";
  };

  const askGrpc: Callers["askGrpc"] = async (channel, principal) => {
    const { body, expect } = it.oracle.sampleCase(model, random);
    const metadata = new Metadata();
    if (principal !== undefined) metadata.set("x-api-key", keys.get(principal) ?? principal);
    try {
      const answer = await channel.modelInfer(buildInferRequest(model, body, "raw"), { timeoutMs: podsMs, metadata });
      return refuteAnswer(expect, readOutputs(answer)) ?? "right";
    } catch (error) {
      const { code } = error as { readonly code?: status };
      return code === undefined ? String(error) : (status[code] ?? String(code));
    }
  };

  const createServingClient = (at: Place, options: ChannelOptions = {}): ServingClient =>
    createClient(GRPCInferenceService, `${at.host}:${at.port}`, credentials.createSsl(servingCa), {
      channel: { "grpc.ssl_target_name_override": servingHost, ...options },
    });

  const parts = stack.move();
  return {
    it,
    async addAccount(account, role) {
      const own = ["--namespace", it.namespace];
      await it.cluster.kubectl("create", "serviceaccount", account, ...own);
      const to = `--serviceaccount=${it.namespace}:${account}`;
      await it.cluster.kubectl("create", "rolebinding", account, `--role=warmpath-management-${role}`, to, ...own);
      tokens.set(account, (await it.cluster.kubectl("create", "token", account, ...own)).trim());
    },
    keepKey: (principal, key) => void keys.set(principal, key),
    addressesOf,
    twoGateways: () =>
      waitUntil(
        "two gateways are ready",
        () => addressesOf(gateways),
        (found) => found.length === 2,
        podsMs,
      ),
    async manage(address, account, path, body) {
      const at = await it.cluster.forward(address, 8080);
      const token = account === undefined ? undefined : (tokens.get(account) ?? account);
      const answer = await request(`https://${at.host}:${at.port}/api/v1/${path}`, {
        dispatcher: management,
        method: body === undefined ? "GET" : "POST",
        headers: {
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
          ...(body === undefined ? {} : { "content-type": "application/json" }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      return { status: answer.statusCode, text: await answer.body.text() };
    },
    askRest,
    askGrpc,
    async askGrpcOnce(at, principal) {
      using channel = createServingClient(at);
      return await askGrpc(channel, principal);
    },
    async tellUnderLoad(change) {
      const [rest, grpc] = await Promise.all(
        [8008, 8033].map((port) => it.cluster.forwardService("modelmesh-serving", port, it.namespace)),
      );
      assert.ok(rest !== undefined && grpc !== undefined);
      await using own = new AsyncDisposableStack();
      const keeping = new Agent({
        connect: { ca: servingCa, servername: servingHost, timeout: podsMs },
        connections: 1,
        pipelining: 1,
      });
      const kept = own.adopt(keeping, (made) => made.destroy());
      using channel = createServingClient(grpc, { "grpc.enable_retries": 0 });
      const began = performance.now();
      const told = new Map<string, number>();
      const by = [0, 0];
      const stop = new AbortController();
      const askers = [
        () => askRest(rest, it.namespace, kept).catch((error: unknown) => describeFailure(error)),
        () => askGrpc(channel, it.namespace),
      ];
      const asking = askers.map(async (ask, at) => {
        while (!stop.signal.aborted) {
          const sentMs = performance.now() - began;
          const answer = await ask();
          by[at] = (by[at] ?? 0) + 1;
          const what = answer === "right" ? answer : `${at === 0 ? "rest" : "grpc"} at ${Math.round(sentMs)} ms: ${answer}`;
          told.set(what, (told.get(what) ?? 0) + 1);
        }
      });
      try {
        await change();
      } finally {
        stop.abort();
        await Promise.all(asking);
      }
      return { told, summary: `over REST and gRPC: ${by.join(" and ")}; ${JSON.stringify(Object.fromEntries(told))}` };
    },
    async replaced(selector, gone) {
      await waitUntil(
        `two others are there, and nothing else: ${selector}`,
        async () => (await it.pods(selector)).map(({ metadata, status: seen }) => [metadata.name, isReady(seen)]),
        (pods) => pods.length === 2 && pods.every(([name, ready]) => ready && !gone.includes(name)),
        podsMs,
      );
    },
    namesOf: async (selector) => (await it.pods(selector)).map(({ metadata }) => String(metadata.name)),
    [Symbol.asyncDispose]: () => parts.disposeAsync(),
  };
}

function describeFailure(error: unknown): string {
  const { code } = error as { readonly code?: unknown };
  return `${String(error)} ${typeof code === "string" ? code : ""}`.trim();
}

export function isReady(seen: KubeValue): boolean {
  const conditions: readonly { readonly type: string; readonly status: string }[] = seen.conditions ?? [];
  return conditions.some(({ type, status: is }) => type === "Ready" && is === "True");
}

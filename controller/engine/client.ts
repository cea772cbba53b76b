// Owns the calls to the API server: lists in pages, watches, server-side apply, status patches. Where it is and who we are
// comes from @kubernetes/client-node; the connections are kept here, since that library opens one for each call.
// Invariants: every call ends by its deadline or its signal; an answer is bounded; what fails is a KubeError with the
// server's own reason, or a fault of the network.
import { createHash } from "node:crypto";
import type { RequestOptions } from "node:https";
import { KubeConfig } from "@kubernetes/client-node";
import { Agent, type Dispatcher, request } from "undici";
import { isRecord } from "#core/fields.ts";
import { parseJson } from "#platform/json.ts";
import { apiVersionOf, type KubeObject, parseObject, pathOf, type ResourceType, text } from "./objects.ts";

export interface ListPage {
  readonly items: readonly KubeObject[];
  readonly resourceVersion: string;
  readonly continueFrom: string | undefined;
}

export type WatchEvent =
  | { readonly kind: "changed" | "deleted"; readonly object: KubeObject }
  | { readonly kind: "bookmark"; readonly resourceVersion: string }
  /** Too old: list again. */
  | { readonly kind: "expired" };

export interface KubeClient extends AsyncDisposable {
  list(type: ResourceType, namespace: string | undefined, options: ListOptions): Promise<ListPage>;
  /** Changes after a version until the server ends the watch; throws when the connection breaks. */
  watch(type: ResourceType, namespace: string | undefined, options: WatchOptions): AsyncIterable<WatchEvent>;
  get(type: ResourceType, namespace: string | undefined, name: string): Promise<KubeObject | undefined>;
  /** Server-side apply of these fields as ours, whoever had them. */
  apply(type: ResourceType, object: Appliable): Promise<KubeObject>;
  /** Merges into the status; a null takes a field away. Undefined when the object is gone. */
  mergeStatus(type: ResourceType, namespace: string | undefined, name: string, status: unknown): Promise<KubeObject | undefined>;
  create(type: ResourceType, namespace: string | undefined, object: unknown): Promise<KubeObject>;
  /** Only when the object is still at the version in its metadata. */
  replace(type: ResourceType, namespace: string | undefined, name: string, object: unknown): Promise<KubeObject>;
  /** False when it was not there. */
  delete(type: ResourceType, namespace: string | undefined, name: string): Promise<boolean>;
  /** Calls made, by what they do: for tests and metrics. */
  readonly counts: Readonly<Record<"reads" | "writes", number>>;
}

export interface ListOptions {
  readonly limit: number;
  readonly continueFrom?: string | undefined;
  readonly labelSelector?: string | undefined;
}

export interface WatchOptions {
  readonly resourceVersion: string;
  readonly timeoutSeconds: number;
  readonly signal: AbortSignal;
  readonly labelSelector?: string | undefined;
}

/** What is applied: its own fields, `metadata.name` at least. */
export interface Appliable {
  readonly metadata?: { readonly name?: string; readonly namespace?: string };
}

/** The API server's refusal, such as `NotFound`, `Conflict`, `Forbidden`, `Invalid`. */
export class KubeError extends Error {
  override readonly name = "KubeError";
  readonly status: number;
  readonly reason: string;

  constructor(status: number, reason: string, message: string) {
    super(message);
    this.status = status;
    this.reason = reason;
  }
}

const callMs = 30_000;
/** The name under which everything is written. */
export const fieldManager = "warmpath-controller";
const maxConnections = 16;
const maxAnswerBytes = 64 << 20;
/** Of one object in a watch; etcd holds none above 1.5 MiB. */
const maxLineBytes = 16 << 20;
/** A bookmark comes each minute: a watch that is silent for longer has lost its connection. */
const silenceMs = 150_000;

export interface ClientOptions {
  /** A call that has no answer by then has failed. */
  readonly deadlineMs?: number;
  /** Where calls are counted, if several clients are counted as one. */
  readonly counts?: Record<"reads" | "writes", number>;
}

/**
 * The cluster that the process runs in, or the one that the file, KUBECONFIG or `~/.kube/config` names. What is under way when
 * it is disposed of ends at once, and nothing begins afterwards.
 */
export function createKubeClient(kubeconfig: string | undefined, options: ClientOptions = {}): KubeClient {
  const { deadlineMs = callMs, counts = { reads: 0, writes: 0 } } = options;
  const config = new KubeConfig();
  if (kubeconfig === undefined) config.loadFromDefault();
  else config.loadFromFile(kubeconfig);
  const cluster = config.getCurrentCluster();
  if (cluster === null || !URL.canParse(cluster.server)) throw new Error("no Kubernetes is configured");
  const base = cluster.server.replace(/\/+$/, "");
  let agent: { readonly key: string; readonly agent: Agent } | undefined;
  let isClosed = false;

  /** Certificates and tokens are read anew by the library when they change on disk; the connections follow. */
  async function authenticate(): Promise<{ readonly agent: Agent; readonly headers: Record<string, string> }> {
    const options: RequestOptions = {};
    await config.applyToHTTPSOptions(options);
    if (isClosed) throw new Error("the client of the API server is closed");
    const { ca, cert, key, servername, rejectUnauthorized } = options;
    const connect = { ca, cert, key, servername, ...(rejectUnauthorized === undefined ? {} : { rejectUnauthorized }) };
    const hash = createHash("sha256");
    hash.update(JSON.stringify([ca, cert, key]));
    const id = hash.digest("hex");
    if (agent?.key !== id) {
      const old = agent;
      agent = {
        key: id,
        agent: new Agent({ connect: withoutUndefined(connect), connections: maxConnections, headersTimeout: 0, bodyTimeout: 0 }),
      };
      void old?.agent.close().catch(() => undefined);
    }
    const headers = Object.entries(options.headers ?? {}).map(([name, value]) => [name, String(value)] as const);
    return { agent: agent.agent, headers: Object.fromEntries(headers) };
  }

  async function call(
    method: Dispatcher.HttpMethod,
    path: string,
    query: Readonly<Record<string, string | undefined>>,
    body?: { readonly type: string; readonly value: unknown },
  ): Promise<unknown> {
    counts[method === "GET" ? "reads" : "writes"] += 1;
    const { agent, headers } = await authenticate();
    const answer = await request(`${base}${path}${queryOf(query)}`, {
      method,
      dispatcher: agent,
      headers: { ...headers, accept: "application/json", ...(body === undefined ? {} : { "content-type": body.type }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body.value) }),
      signal: AbortSignal.timeout(deadlineMs),
    });
    const json = parseJson(await readBounded(answer.body));
    if (answer.statusCode < 300) return json;
    throw errorOf(answer.statusCode, json, `${method} ${path}`);
  }

  const object = (value: unknown): KubeObject => {
    const parsed = parseObject(value);
    if (parsed === undefined) throw new Error("the API server answered with no object");
    return parsed;
  };
  const absent = async <T>(work: Promise<T>): Promise<T | undefined> => {
    try {
      return await work;
    } catch (error) {
      if (error instanceof KubeError && error.status === 404) return undefined;
      throw error;
    }
  };
  const json = (value: unknown): { readonly type: string; readonly value: unknown } => ({ type: "application/json", value });

  return {
    counts,
    async list(type, namespace, { limit, continueFrom, labelSelector }) {
      const answer = await call("GET", pathOf(type, namespace), { limit: `${limit}`, continue: continueFrom, labelSelector });
      const found = isRecord(answer) ? answer : {};
      const metadata = isRecord(found["metadata"]) ? found["metadata"] : {};
      const items: unknown = found["items"];
      const next = metadata["continue"];
      return {
        items: (Array.isArray(items) ? items : []).flatMap((item: unknown) => parseObject(item) ?? []),
        resourceVersion: text(metadata["resourceVersion"]) ?? "",
        continueFrom: typeof next === "string" && next !== "" ? next : undefined,
      };
    },
    async *watch(type, namespace, { resourceVersion, timeoutSeconds, signal, labelSelector }) {
      counts.reads += 1;
      const { agent, headers } = await authenticate();
      const query = queryOf({
        watch: "true",
        resourceVersion,
        allowWatchBookmarks: "true",
        timeoutSeconds: `${timeoutSeconds}`,
        labelSelector,
      });
      const answer = await request(`${base}${pathOf(type, namespace)}${query}`, {
        dispatcher: agent,
        headers: { ...headers, accept: "application/json" },
        headersTimeout: callMs,
        bodyTimeout: silenceMs,
        signal,
      });
      if (answer.statusCode >= 300) {
        if (answer.statusCode === 410) {
          await answer.body.dump();
          yield { kind: "expired" };
          return;
        }
        throw errorOf(answer.statusCode, parseJson(await readBounded(answer.body)), `watch ${type.plural}`);
      }
      for await (const line of linesOf(answer.body)) {
        const event = parseEvent(line);
        if (event !== undefined) yield event;
        if (event?.kind === "expired") return;
      }
    },
    get: (type, namespace, name) => absent(call("GET", pathOf(type, namespace, name), {}).then(object)),
    async apply(type, { metadata, ...rest }) {
      const { name = "", namespace } = metadata ?? {};
      const value = { apiVersion: apiVersionOf(type), kind: type.kind, ...rest, metadata };
      return object(
        await call(
          "PATCH",
          pathOf(type, namespace, name),
          { fieldManager, force: "true" },
          { type: "application/apply-patch+yaml", value },
        ),
      );
    },
    mergeStatus: (type, namespace, name, status) =>
      absent(
        call(
          "PATCH",
          pathOf(type, namespace, name, "status"),
          { fieldManager },
          {
            type: "application/merge-patch+json",
            value: { status },
          },
        ).then(object),
      ),
    create: async (type, namespace, value) => object(await call("POST", pathOf(type, namespace), { fieldManager }, json(value))),
    replace: async (type, namespace, name, value) =>
      object(await call("PUT", pathOf(type, namespace, name), { fieldManager }, json(value))),
    async delete(type, namespace, name) {
      return (await absent(call("DELETE", pathOf(type, namespace, name), {}))) !== undefined;
    },
    async [Symbol.asyncDispose]() {
      isClosed = true;
      await agent?.agent.destroy();
    },
  };
}

function withoutUndefined(value: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(value).filter(([, each]) => each !== undefined));
}

function queryOf(query: Readonly<Record<string, string | undefined>>): string {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== undefined) given.set(name, value);
  return given.size === 0 ? "" : `?${given.toString()}`;
}

function errorOf(status: number, answer: unknown, what: string): KubeError {
  const said = isRecord(answer) ? answer : {};
  const reason = typeof said["reason"] === "string" && said["reason"] !== "" ? said["reason"] : `HTTP ${status}`;
  const message = typeof said["message"] === "string" ? said["message"].slice(0, 1_000) : reason;
  return new KubeError(status, reason, `${what}: ${message}`);
}

async function readBounded(body: Dispatcher.ResponseData["body"]): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxAnswerBytes) throw new Error(`the API server answered with more than ${maxAnswerBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

async function* linesOf(body: AsyncIterable<Buffer>): AsyncIterable<string> {
  let parts: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    let from = 0;
    for (let at = chunk.indexOf(10); at !== -1; at = chunk.indexOf(10, from)) {
      parts.push(chunk.subarray(from, at));
      yield Buffer.concat(parts).toString("utf8");
      parts = [];
      bytes = 0;
      from = at + 1;
    }
    parts.push(chunk.subarray(from));
    bytes += chunk.length - from;
    if (bytes > maxLineBytes) throw new Error(`a watch event has more than ${maxLineBytes} bytes`);
  }
}

/** One line of a watch; undefined when it tells nothing that is known here. */
function parseEvent(line: string): WatchEvent | undefined {
  const event = parseJson(line);
  if (!isRecord(event)) return undefined;
  const { type } = event;
  if (type === "ERROR") {
    const said = isRecord(event["object"]) ? event["object"] : {};
    const code = typeof said["code"] === "number" ? said["code"] : 500;
    if (code === 410) return { kind: "expired" };
    throw errorOf(code, said, "watch");
  }
  const metadata = isRecord(event["object"]) ? event["object"]["metadata"] : undefined;
  if (type === "BOOKMARK") {
    const version = isRecord(metadata) ? metadata["resourceVersion"] : undefined;
    return typeof version === "string" ? { kind: "bookmark", resourceVersion: version } : undefined;
  }
  const object = parseObject(event["object"]);
  if (object === undefined) return undefined;
  if (type === "DELETED") return { kind: "deleted", object };
  return type === "ADDED" || type === "MODIFIED" ? { kind: "changed", object } : undefined;
}

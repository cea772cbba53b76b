// Owns the conversation with the built-in model server: its management API, JSON over HTTP on a unix socket.
// Its life is told apart by the socket file: a server makes a new one at each start.

import { stat } from "node:fs/promises";
import { Client, type Dispatcher, errors, Pool } from "undici";
import { z } from "zod";
import { errorMessage } from "#core/errors.ts";
import { longestLoadMs } from "#core/loadqueue.ts";
import type { Clock } from "#platform/clock.ts";
import { openDeadline } from "#platform/deadline.ts";
import { parseJson } from "#platform/json.ts";
import type { Driver, DriverListener, Failure, Listed, LoadRequest } from "./driver.ts";
import { createWatch, type Pulse } from "./watch.ts";

export interface OnnxDriverOptions {
  readonly adminSocket: string;
  readonly clock: Clock;
  /** How long an unload waits for requests in flight; 5 s when absent. */
  readonly drainMs?: number;
  /** 250 ms when absent. */
  readonly pollMs?: number;
  /** A model server that answers nothing for so long counts as lost; 20 s when absent. */
  readonly silenceMs?: number;
}

const callTimeoutMs = 5_000;
const maxAnswerBytes = 64 * 2 ** 20;
const maxConnections = 16;

const loadedSchema = z.object({ sizeBytes: z.number().nonnegative() });
const failureSchema = z.object({ error: z.string(), kind: z.enum(["model", "pod", "storage", "capacity"]).default("pod") });
const indexSchema = z.array(
  z.object({ name: z.string(), revision: z.string(), state: z.string(), sizeBytes: z.number().nonnegative() }),
);

type Called = { readonly kind: "ok"; readonly body: unknown } | Failure;

export function createOnnxDriver(options: OnnxDriverOptions): Driver {
  return new OnnxDriver(options);
}

class OnnxDriver implements Driver {
  readonly keepsArtefact = false;
  readonly streamsByHeader = true;
  readonly #options: OnnxDriverOptions;
  // A connection of its own, so that polls never queue behind loads.
  readonly #polls: Client;
  readonly #calls: Pool;
  readonly #watch;

  constructor(options: OnnxDriverOptions) {
    const { adminSocket, clock, pollMs = 250, silenceMs = 20_000 } = options;
    this.#options = options;
    const connection = { socketPath: adminSocket, headersTimeout: 0, bodyTimeout: 0 } as const;
    this.#polls = new Client("http://localhost", connection);
    this.#calls = new Pool("http://localhost", { ...connection, connections: maxConnections });
    this.#watch = createWatch({
      clock,
      pollMs,
      silenceMs,
      pulse: (signal) => this.#pulse(signal),
      list: (signal) => this.list(signal),
    });
    // The kernel closes the connection of a dead process at once: sooner than the next poll.
    this.#polls.on("disconnect", () => this.#watch.hurry());
  }

  start(listener: DriverListener, signal: AbortSignal): Promise<void> {
    return this.#watch.run(listener, signal);
  }

  alive(): boolean {
    return this.#watch.up;
  }

  doubt(silenceMs: number): void {
    this.#watch.doubt(silenceMs);
  }

  async load({ serverName, revision, path, signal }: LoadRequest): ReturnType<Driver["load"]> {
    const called = await this.#post(`${modelPath(serverName)}/load`, { parameters: { path, revision } }, longestLoadMs, signal);
    if (called.kind === "failed") return called;
    const loaded = loadedSchema.safeParse(called.body);
    return loaded.success ? { kind: "ok", sizeBytes: loaded.data.sizeBytes, measured: true } : strange;
  }

  async unload(serverName: string, signal: AbortSignal): ReturnType<Driver["unload"]> {
    const drainMs = this.#options.drainMs ?? 5_000;
    const body = { parameters: { drainMs } };
    const called = await this.#post(`${modelPath(serverName)}/unload`, body, drainMs + callTimeoutMs, signal);
    return called.kind === "ok" ? { kind: "ok" } : called;
  }

  async list(signal: AbortSignal): Promise<Listed> {
    const called = await this.#post("/v2/repository/index", {}, callTimeoutMs, signal);
    if (called.kind === "failed") return called;
    const index = indexSchema.safeParse(called.body);
    if (!index.success) return strange;
    const ready = index.data.filter(({ state }) => state === "READY");
    return { kind: "ok", held: ready.map(({ name, revision, sizeBytes }) => ({ serverName: name, revision, sizeBytes })) };
  }

  async ready(serverName: string, revision: string, signal: AbortSignal): Promise<boolean | undefined> {
    const listed = await this.list(signal);
    if (listed.kind === "failed") return undefined;
    return listed.held.some((model) => model.serverName === serverName && model.revision === revision);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.#polls.destroy(), this.#calls.destroy()]);
  }

  /** A kept connection may have been closed for other reasons: only a fresh one that fails as well tells of death. */
  async #pulse(signal: AbortSignal): Promise<Pulse> {
    const first = await this.#pulseOnce(signal);
    return first.kind === "dead" ? await this.#pulseOnce(signal) : first;
  }

  async #pulseOnce(signal: AbortSignal): Promise<Pulse> {
    try {
      const file = await stat(this.#options.adminSocket, { bigint: true });
      const called = await this.#call(this.#polls, { method: "GET", path: "/stats" }, callTimeoutMs, signal);
      if (called.kind === "ok") return { kind: "alive", life: `${file.dev}:${file.ino}:${file.mtimeNs}` };
      return { kind: "silent", reason: called.reason };
    } catch (error) {
      signal.throwIfAborted();
      const reason = errorMessage(error);
      return isGone(error) ? { kind: "dead", reason } : { kind: "silent", reason };
    }
  }

  async #post(path: string, body: unknown, timeoutMs: number, signal: AbortSignal): Promise<Called> {
    try {
      const headers = { "content-type": "application/json" };
      return await this.#call(this.#calls, { method: "POST", path, headers, body: JSON.stringify(body) }, timeoutMs, signal);
    } catch (error) {
      signal.throwIfAborted();
      if (isGone(error)) this.#watch.hurry();
      return { kind: "failed", failure: "pod", reason: `the model server did not answer: ${errorMessage(error)}` };
    }
  }

  async #call(to: Dispatcher, request: Dispatcher.RequestOptions, timeoutMs: number, signal: AbortSignal): Promise<Called> {
    using deadline = openDeadline(timeoutMs, signal);
    const { statusCode, body } = await to.request({ ...request, signal: deadline.signal });
    const json = parseJson(await readText(body));
    if (statusCode === 200) return { kind: "ok", body: json };
    const failure = failureSchema.safeParse(json);
    if (!failure.success)
      return { kind: "failed", failure: "pod", reason: `the model server answered with status ${statusCode}` };
    return { kind: "failed", failure: failure.data.kind, reason: failure.data.error };
  }
}

const strange: Failure = { kind: "failed", failure: "pod", reason: "the model server gave an answer of a strange form" };

function modelPath(serverName: string): string {
  return `/v2/repository/models/${encodeURIComponent(serverName)}`;
}

async function readText(body: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of body) {
    length += chunk.length;
    if (length > maxAnswerBytes) throw new Error("the model server's answer is too long");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

const goneCodes: ReadonlySet<string> = new Set(["ECONNREFUSED", "ENOENT", "ECONNRESET", "EPIPE"]);

/** Nobody listens, or who did has closed the connection. */
function isGone(error: unknown): boolean {
  if (error instanceof errors.SocketError) return true;
  return error instanceof Error && "code" in error && goneCodes.has(String(error.code));
}

// Owns what the command line asks of a gateway's management API: one call, its answer or the reason, in time. Node's own
// HTTP client and nothing else, since a command must be there at once.
import { readFileSync } from "node:fs";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { request as httpsRequest } from "node:https";
import { CommandError } from "./failure.ts";

export interface ManageOptions {
  /** Of a gateway's management API. */
  readonly url: string;
  /** File with a bearer token. */
  readonly tokenFile: string | undefined;
  /** PEM file of the authority that signed the gateway's certificate. */
  readonly caFile: string | undefined;
  readonly timeoutMs: number;
}

export interface Asked {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
}

export interface ManageClient {
  readonly url: string;
  /** Resolves when all is well; throws a CommandError that says why it is not. */
  ask(method: string, path: string, body?: unknown, headers?: Readonly<Record<string, string>>): Promise<Asked>;
  /** As it is, refusals too. */
  tell(method: string, path: string): Promise<{ readonly status: number; readonly text: string }>;
  /** The gateway's clock, to the second; undefined when it tells none. */
  date(): Promise<number | undefined>;
}

const maxAnswerBytes = 64 * 2 ** 20;

export function createManageClient(options: ManageOptions): ManageClient {
  const base = parseUrl(options.url);
  const token = options.tokenFile === undefined ? undefined : readFile(options.tokenFile, "--token-file").trim();
  const ca = options.caFile === undefined ? undefined : readFile(options.caFile, "--ca-file");

  async function send(
    method: string,
    path: string,
    body: unknown,
    headers: Readonly<Record<string, string>>,
  ): Promise<{ readonly status: number; readonly text: string; readonly date: string | undefined }> {
    const payload = body === undefined ? undefined : JSON.stringify(body);
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const request = (base.protocol === "https:" ? httpsRequest : httpRequest)(
      new URL(path, base),
      {
        method,
        headers: {
          accept: "application/json",
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
          ...(payload === undefined ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(payload) }),
          ...headers,
        },
        ...(ca === undefined ? {} : { ca }),
        signal: AbortSignal.timeout(options.timeoutMs),
      },
      resolve,
    );
    request.once("error", reject);
    request.end(payload);
    try {
      const answer = await promise;
      let text = "";
      for await (const chunk of answer.setEncoding("utf8")) {
        text += String(chunk);
        if (text.length > maxAnswerBytes) throw new Error("the answer is too long");
      }
      return { status: answer.statusCode ?? 0, text, date: answer.headers.date };
    } catch (error) {
      throw unreachable(options, error);
    }
  }

  return {
    url: base.href,
    tell: (method, path) => send(method, path, undefined, {}),
    async date() {
      const ms = Date.parse((await send("GET", "/healthz", undefined, {})).date ?? "");
      return Number.isNaN(ms) ? undefined : ms;
    },
    async ask(method, path, body, headers = {}) {
      const { status, text } = await send(method, path, body, headers);
      const parsed = parseObject(text);
      if (parsed === undefined) {
        throw new CommandError(
          "unreachable",
          `${base.origin} does not answer as a Warmpath gateway (HTTP ${status}): is --url its management address?`,
        );
      }
      if (status < 400) return { status, body: parsed };
      const reason = typeof parsed["error"] === "string" ? parsed["error"] : `HTTP ${status}`;
      const code = typeof parsed["code"] === "string" ? ` (${parsed["code"]})` : "";
      throw new CommandError(kindOf(status), `${reason}${code}`);
    },
  };
}

function kindOf(status: number): CommandError["kind"] {
  if (status === 404) return "not-found";
  if (status === 424) return "failed";
  return status >= 500 ? "unreachable" : "refused";
}

function unreachable({ url, timeoutMs }: ManageOptions, error: unknown): CommandError {
  const code = typeof error === "object" && error !== null && "code" in error ? String(error.code) : "";
  const isLate = error instanceof Error && (error.name === "TimeoutError" || error.name === "AbortError");
  const distrusts = /CERT|SELF_SIGNED|UNABLE_TO_VERIFY|ISSUER/.test(code);
  if (distrusts) {
    return new CommandError(
      "unreachable",
      `the certificate of ${url} is not trusted (${code}): name the PEM file of its authority with --ca-file or WARMPATH_CA_FILE`,
    );
  }
  const why = isLate ? `no answer within ${timeoutMs / 1_000} s` : code === "" ? String(error) : code;
  return new CommandError(
    "unreachable",
    `no gateway answers at ${url} (${why}): start one with \`warmpath up\`, or name its management address with --url or WARMPATH_URL`,
  );
}

function parseUrl(text: string): URL {
  const url = URL.parse(text.includes("://") ? text : `http://${text}`);
  if (url === null || (url.protocol !== "http:" && url.protocol !== "https:"))
    throw new CommandError("usage", `--url must be an address such as http://127.0.0.1:8080, not '${text}'`);
  return url;
}

function readFile(path: string, option: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    throw new CommandError("usage", `${option}: ${path} cannot be read`);
  }
}

function parseObject(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const json: unknown = JSON.parse(text);
    return typeof json === "object" && json !== null && !Array.isArray(json) ? { ...json } : undefined;
  } catch {
    return undefined;
  }
}

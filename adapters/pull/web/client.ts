// Owns requests to servers: connections, deadlines, redirects.
// Invariants: headers that are secrets go to the origin they are meant for and to no other; a redirect never leads from
// https to http, and never to a private address unless that is allowed; every silence ends.
import { Agent, buildConnector, type Dispatcher, request } from "undici";
import { showUrl } from "../address.ts";
import { connectionError, PullError, statusError } from "../trouble.ts";
import { checkLiteral, guardedLookup } from "./guard.ts";

export interface WebTls {
  readonly certificate?: string | undefined;
  readonly clientCertificate?: string | undefined;
  readonly clientKey?: string | undefined;
}

export interface WebOptions {
  /** Every server may have a private address. */
  readonly allowPrivate: boolean;
  /** The one origin that the operator vouches for, wherever it is. */
  readonly trustedOrigin?: string;
  /** For that origin, or for the first one asked. */
  readonly tls?: WebTls;
  /** How long a server may say nothing; 30 s when absent. */
  readonly silenceMs?: number;
}

export interface WebRequest {
  readonly method?: "GET" | "HEAD" | "POST";
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent to the first origin only. */
  readonly secretHeaders?: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly signal: AbortSignal;
}

export interface WebAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly body: Dispatcher.ResponseData["body"];
  /** Where the redirects led. */
  readonly url: string;
}

export interface WebClient extends AsyncDisposable {
  /** Any status but a redirect is an answer; the caller reads or dumps its body. Throws PullError or the signal's reason. */
  send(url: string, request: WebRequest): Promise<WebAnswer>;
}

const maxRedirects = 5;
const connectMs = 10_000;
const redirects: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

export function createWebClient(options: WebOptions): WebClient {
  const { allowPrivate, trustedOrigin, tls = {}, silenceMs = 30_000 } = options;
  const timeouts = { headersTimeout: silenceMs, bodyTimeout: silenceMs, connectTimeout: connectMs, connections: 16 };
  const own = {
    ...(tls.certificate === undefined ? {} : { ca: tls.certificate }),
    ...(tls.clientCertificate === undefined ? {} : { cert: tls.clientCertificate, key: tls.clientKey ?? "" }),
  };
  const guarded = buildConnector({ timeout: connectMs, lookup: guardedLookup });
  const open = new Agent({ ...timeouts, connect: { timeout: connectMs } });
  const trusted = new Agent({ ...timeouts, connect: { timeout: connectMs, ...own } });
  const closed = new Agent({
    ...timeouts,
    connect(to, callback): void {
      try {
        checkLiteral(to.hostname);
      } catch (error) {
        callback(error instanceof Error ? error : new Error(String(error)), null);
        return;
      }
      guarded(to, callback);
    },
  });
  const agentFor = (origin: string): Agent => (origin === trustedOrigin ? trusted : allowPrivate ? open : closed);

  return {
    async send(firstUrl, { method = "GET", headers = {}, secretHeaders = {}, body, signal }): Promise<WebAnswer> {
      const { origin: firstOrigin } = new URL(firstUrl);
      let url = firstUrl;
      for (let hop = 0; hop <= maxRedirects; hop++) {
        const { origin } = new URL(url);
        const answer = await ask(agentFor(origin), url, {
          method,
          headers: { ...headers, ...(origin === firstOrigin ? secretHeaders : {}), "user-agent": "warmpath" },
          body: origin === firstOrigin ? (body ?? null) : null,
          signal,
        });
        const location = answer.headers["location"];
        if (!redirects.has(answer.statusCode) || typeof location !== "string") {
          return { status: answer.statusCode, headers: plainHeaders(answer.headers), body: answer.body, url };
        }
        await answer.body.dump({ limit: 65_536, signal }).catch(() => undefined);
        url = redirectTo(url, location, firstUrl);
      }
      throw new PullError("unsuitable", `${showUrl(firstUrl)} redirects more than ${maxRedirects} times`);
    },
    async [Symbol.asyncDispose](): Promise<void> {
      await Promise.all([open.destroy(), trusted.destroy(), closed.destroy()]);
    },
  };
}

async function ask(
  dispatcher: Agent,
  url: string,
  { signal, ...options }: Pick<Dispatcher.RequestOptions, "method" | "headers" | "body"> & { readonly signal: AbortSignal },
): Promise<Dispatcher.ResponseData> {
  try {
    return await request(url, { ...options, dispatcher, signal });
  } catch (error) {
    signal.throwIfAborted();
    throw connectionError(error, showUrl(url));
  }
}

function redirectTo(from: string, location: string, first: string): string {
  const to = URL.canParse(location, from) ? new URL(location, from) : undefined;
  if (to === undefined || !/^https?:$/.test(to.protocol) || to.username !== "" || to.password !== "") {
    throw new PullError("unsuitable", `${showUrl(first)} redirects to what is no plain web address`);
  }
  if (new URL(from).protocol === "https:" && to.protocol === "http:") {
    throw new PullError("unsuitable", `${showUrl(first)} redirects from https to http`);
  }
  to.hash = "";
  return to.href;
}

/** Of a repeated header the first value; none that matters here may be repeated. */
function plainHeaders(headers: Dispatcher.ResponseData["headers"]): Readonly<Record<string, string | undefined>> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, Array.isArray(value) ? value[0] : value]));
}

/** A whole small body as text. */
export async function readText(answer: WebAnswer, maxBytes: number, what: string, signal: AbortSignal): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of answer.body as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > maxBytes)
        throw new PullError("unsuitable", `the server's answer about ${what} is longer than ${maxBytes} bytes`);
      chunks.push(chunk);
    }
  } catch (error) {
    signal.throwIfAborted();
    throw connectionError(error, what);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** Ends the connection with it: the body may never end. */
export function discardBody({ body }: WebAnswer): void {
  body.on("error", () => undefined).destroy();
}

/** Throws unless the status is a good one; the body of a bad one is put away. */
export async function expectStatus(answer: WebAnswer, good: readonly number[], what: string): Promise<void> {
  if (good.includes(answer.status)) return;
  discardBody(answer);
  throw statusError(answer.status, what, { waitMs: retryAfterMs(answer.headers["retry-after"]) });
}

function retryAfterMs(header: string | undefined): number {
  return header !== undefined && /^\d{1,4}$/.test(header) ? Number(header) * 1_000 : 0;
}

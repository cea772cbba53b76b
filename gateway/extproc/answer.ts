// Owns how a decision becomes an answer in the protocol's own form. Pure.
// The HTTP port's Envoy wraps an error's text into {"error": ...}; on the gRPC port the text is the grpc-message.
import { type ErrorCode, errorCatalogue } from "#core/errors.ts";
import { serverName } from "#core/model.ts";
import { entryPrincipal, headers, leftToFirst } from "#envoy/names.ts";
import type { RerouteTarget } from "../reroutes.ts";
import type { ProcessingAnswer } from "./codec.ts";
import type { InferRequest } from "./request.ts";

type Header = readonly [string, string];

/** Printable text only, so that it stands in a header and a terminal. */
function plain(text: string): string {
  return text.replaceAll(/[^\x20-\x7e]/g, "?").slice(0, 1_000);
}

export function refuse(code: ErrorCode, reason: string, retryAfterMs?: number): ProcessingAnswer {
  const { http, grpc, retry } = errorCatalogue[code];
  const seconds = retryAfterMs === undefined ? (retry === "later" ? 1 : undefined) : Math.max(1, Math.ceil(retryAfterMs / 1_000));
  return {
    kind: "immediate",
    code,
    httpStatus: http,
    grpcStatus: grpc,
    headers: seconds === undefined ? [] : [["retry-after", `${seconds}`]],
    body: plain(reason),
    details: `warm_${code.replaceAll("-", "_")}`,
  };
}

/** Nobody's answer: the first try goes on, and has the word. */
export function leaveToFirst(answer: ProcessingAnswer): ProcessingAnswer {
  if (answer.kind === "continue") return answer;
  return { ...answer, headers: [...answer.headers, [headers.notHere, leftToFirst]] };
}

/** On by the entry of a pod: over REST the entry stands in the path where the name was, the name behind it. */
export function goOn(
  waitedMs: number,
  request: InferRequest,
  entry: string,
  /** As Envoy told it, where callers prove who they are. */
  principal?: string,
): ProcessingAnswer {
  const waited: Header = [headers.loadMs, waitedMs.toFixed(1)];
  const key: readonly Header[] = principal === undefined ? [] : [[headers.principal, entryPrincipal]];
  if (request.wire === "grpc") {
    return { kind: "continue", setHeaders: [waited, ...key, [headers.model, entry], [headers.publicName, request.model]] };
  }
  const path = request.path.replace(/^(\/(?:v1|v2|openai)\/models\/)/, `$1${entry}/`);
  return { kind: "continue", setHeaders: [waited, ...key, [":path", path]] };
}

/** Paths of calls that name the model in their JSON body only. */
const openaiCall = /^\/v1\/(?:chat\/completions|completions|embeddings)$/;

/** Once more, to one pod, under the name that the revision has there. */
export function reroute(waitedMs: number, request: InferRequest, to: RerouteTarget): ProcessingAnswer {
  const { cluster, slot, streamsByHeader } = to;
  const waited: Header = [headers.loadMs, waitedMs.toFixed(1)];
  const chosen: Header = [headers.cluster, cluster];
  const name = serverName(request.model, slot);
  if (request.wire === "rest") {
    const path = request.path.replace(
      /^(\/v[12]\/models\/)[^/:]+(?:\/:|)/,
      (whole, front: string) => `${front}${name}${whole.endsWith("/:") ? ":" : ""}`,
    );
    const inBody: readonly Header[] = slot > 0 && openaiCall.test(path) ? [[headers.serverName, name]] : [];
    return { kind: "continue", setHeaders: [waited, chosen, [":path", path], ...inBody] };
  }
  const named = nameOnPod(request.path, name, streamsByHeader);
  const path = to.idInjections?.get(request.path.slice(1));
  // V2's own message names the model where it is read, whatever a runtime says of it.
  const inject: readonly Header[] = path === undefined || named[0] === headers.serverName ? [] : [[headers.inject, path]];
  return { kind: "continue", setHeaders: [waited, chosen, named, ...inject] };
}

/** The message says it where it can be made to: another service's cannot be read, a stream's need not be where a header does. */
function nameOnPod(path: string, name: string, streamsByHeader: boolean): Header {
  const byHeader = streamsByHeader && path.endsWith("/ModelStreamInfer");
  const inMessage = path.startsWith("/inference.GRPCInferenceService/") && !byHeader;
  return [inMessage ? headers.serverName : "mm-model-id", name];
}

export function json(body: unknown): ProcessingAnswer {
  return jsonText(JSON.stringify(body));
}

export function jsonText(body: string): ProcessingAnswer {
  return {
    kind: "immediate",
    httpStatus: 200,
    grpcStatus: 0,
    headers: [["content-type", "application/json"]],
    body,
    details: "warm_server",
  };
}

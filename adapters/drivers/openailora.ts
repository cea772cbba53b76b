// Owns the conversation with OpenAI-style servers that load LoRA adapters as models, as vLLM does when it is started with
// VLLM_ALLOW_RUNTIME_LORA_UPDATING. https://docs.vllm.ai/en/latest/features/lora.html

import { join } from "node:path";
import { z } from "zod";
import { longestLoadMs } from "#core/loadqueue.ts";
import { findLora } from "../layout/lora.ts";
import type { Failure } from "./driver.ts";
import type { Done, ForeignServer } from "./foreignserver.ts";
import { type Answer, createHttpCaller, failedWith, unanswered, wordsOf } from "./http.ts";
import { classifyLayout, readLayoutRequest } from "./repository.ts";

export interface OpenaiLoraOptions {
  /** `host:port` */
  readonly address: string;
}

const callTimeoutMs = 5_000;

const modelsSchema = z.object({ data: z.array(z.object({ id: z.string() })) });

export function createOpenaiLora({ address }: OpenaiLoraOptions): ForeignServer {
  const http = createHttpCaller(address);
  const post = (path: string, body: unknown, timeoutMs: number, signal: AbortSignal): Promise<Answer> =>
    http.call({ method: "POST", path, body, timeoutMs, signal });

  const index = async (signal: AbortSignal): Promise<{ readonly kind: "ok"; readonly names: ReadonlySet<string> } | Failure> => {
    const answer = await http.call({ method: "GET", path: "/v1/models", timeoutMs: callTimeoutMs, signal });
    if (answer.kind !== "answer") return unanswered(answer);
    const models = modelsSchema.safeParse(answer.json);
    if (!models.success) return failedWith("pod", "the list of models cannot be read", wordsOf(answer));
    return { kind: "ok", names: new Set(models.data.data.map(({ id }) => id)) };
  };

  const unload = async (serverName: string, signal: AbortSignal): Promise<Done> => {
    const answer = await post("/v1/unload_lora_adapter", { lora_name: serverName }, callTimeoutMs, signal);
    if (answer.kind !== "answer") return unanswered(answer);
    const words = wordsOf(answer);
    const absent =
      (answer.status === 404 && answer.json !== undefined) || (answer.status === 400 && /cannot be found/i.test(words));
    if (answer.status === 200 || absent) return { kind: "ok" };
    return failedWith("pod", `unloading was answered with status ${answer.status}`, words);
  };

  return {
    keepsArtefact: true,
    address,
    http2: false,
    live: async (signal) => {
      const answer = await http.call({ method: "GET", path: "/health", timeoutMs: callTimeoutMs, signal });
      // Servers of this kind that have no such path are alive all the same.
      return answer.kind === "answer" && answer.status < 500;
    },
    index,
    async ready(serverName, signal): Promise<boolean | undefined> {
      const listed = await index(signal);
      return listed.kind === "ok" ? listed.names.has(serverName) : undefined;
    },
    async load(request): Promise<Done> {
      const { serverName, path, signal } = request;
      try {
        const read = await readLayoutRequest(request, { isText: () => false });
        const found = "reason" in read ? read : findLora(read);
        if ("reason" in found) return { kind: "failed", failure: "model", reason: found.reason };
        const body = { lora_name: serverName, lora_path: join(path, found.folder) };
        let answer = await post("/v1/load_lora_adapter", body, longestLoadMs, signal);
        if (answer.kind === "answer" && answer.status === 400 && /already/i.test(wordsOf(answer))) {
          // Of a load that nobody remembers: from which folder is not known.
          const unloaded = await unload(serverName, signal);
          if (unloaded.kind === "failed") return unloaded;
          answer = await post("/v1/load_lora_adapter", body, longestLoadMs, signal);
        }
        if (answer.kind !== "answer") return unanswered(answer);
        return answer.status === 200 ? { kind: "ok" } : failedWith("model", "the adapter could not be loaded", wordsOf(answer));
      } catch (error) {
        signal.throwIfAborted();
        return classifyLayout(error, path);
      }
    },
    unload,
    [Symbol.asyncDispose]: () => http[Symbol.asyncDispose](),
  };
}

// Owns the conversation with TorchServe over its management port, where it speaks REST. The server must be started with
// --enable-model-api and without token authorisation there, as the configuration has it that is written for it.
// https://pytorch.org/serve/management_api.html

import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { longestLoadMs } from "#core/loadqueue.ts";
import { sleep } from "#platform/clock.ts";
import { layoutTorchserve } from "../layout/torchserve.ts";
import { linkFile } from "../layout/tree.ts";
import type { Failure, IdInjection, LoadRequest } from "./driver.ts";
import type { Done, ForeignServer } from "./foreignserver.ts";
import { createHttpCaller, failedWith, type HttpCaller, unanswered, wordsOf } from "./http.ts";
import type { ProcessMeter } from "./memory/processes.ts";
import { fileName } from "./record.ts";
import { classifyLayout, readLayoutRequest } from "./repository.ts";
import { type TorchserveAddresses, writeTorchserveConfig } from "./torchserveconfig.ts";

export interface TorchserveOptions extends TorchserveAddresses {
  /** Looks at its workers, where they can be seen. */
  readonly processes?: ProcessMeter;
}

const callTimeoutMs = 5_000;
const goneEveryMs = 100;
const pageSize = 1_000;
const maxPages = 1_000;

const pageSchema = z.object({
  models: z.array(z.object({ modelName: z.string() })),
  nextPageToken: z.coerce.string().optional(),
});
const workerSchema = z.object({
  status: z.string(),
  /** As of its last look at all workers, once a minute: 0 of a new one. */
  memoryUsage: z.number().default(0),
  pid: z.number().optional(),
});
const describedSchema = z.array(z.object({ workers: z.array(workerSchema).default([]) }));

type Worker = z.infer<typeof workerSchema>;

/** Its own service, in which a message names the model. */
const idInjections: readonly IdInjection[] = ["Predictions", "StreamPredictions"].map((method) => ({
  method: `org.pytorch.serve.grpc.inference.InferenceAPIsService/${method}`,
  path: [1],
}));

export function createTorchserve(options: TorchserveOptions): ForeignServer {
  const { address, store, processes } = options;
  const http = createHttpCaller(address);
  const archiveOf = (serverName: string): string => `${fileName(serverName)}.mar`;

  const unload = async (serverName: string, signal: AbortSignal): Promise<Done> => {
    for (;;) {
      const answer = await http.call({ method: "DELETE", path: `/models/${serverName}`, timeoutMs: callTimeoutMs, signal });
      if (answer.kind !== "answer") return unanswered(answer);
      if (answer.status === 404 || answer.status === 200) return { kind: "ok" };
      // Taken on, but not done.
      if (answer.status !== 202) return failedWith("pod", `unloading was answered with status ${answer.status}`, wordsOf(answer));
      await sleep(goneEveryMs, signal);
    }
  };

  const sizeOf = async ({ memoryUsage, pid }: Worker, signal: AbortSignal): Promise<number> =>
    Math.max(memoryUsage, (pid === undefined ? undefined : await processes?.readOne(pid, signal)) ?? 0);

  return {
    keepsArtefact: true,
    address,
    http2: false,
    limits: () => ({ idInjections }),
    prepare: () => writeTorchserveConfig(options),
    live: async (signal) => {
      const answer = await http.call({ method: "GET", path: "/models?limit=1", timeoutMs: callTimeoutMs, signal });
      return answer.kind === "answer" && answer.status === 200;
    },
    async index(signal): Promise<{ readonly kind: "ok"; readonly names: ReadonlySet<string> } | Failure> {
      const names = new Set<string>();
      let token = "";
      for (let page = 0; page < maxPages; page++) {
        const path = `/models?limit=${pageSize}${token === "" ? "" : `&next_page_token=${encodeURIComponent(token)}`}`;
        const answer = await http.call({ method: "GET", path, timeoutMs: callTimeoutMs, signal });
        if (answer.kind !== "answer") return unanswered(answer);
        const parsed = pageSchema.safeParse(answer.json);
        if (!parsed.success) return failedWith("pod", "the list of models cannot be read", wordsOf(answer));
        for (const { modelName } of parsed.data.models) names.add(modelName);
        token = parsed.data.nextPageToken ?? "";
        if (token === "" || parsed.data.models.length === 0) break;
      }
      return { kind: "ok", names };
    },
    async ready(serverName, signal): Promise<boolean | undefined> {
      const workers = await describe(http, serverName, signal);
      return workers === undefined ? undefined : workers.some(({ status }) => status === "READY");
    },
    async load(request): Promise<{ readonly kind: "ok"; readonly sizeBytes?: number } | Failure> {
      const { serverName, signal } = request;
      const put = await putArchive(request, store, archiveOf(serverName));
      if (put.kind === "failed") return put;
      const query = new URLSearchParams({
        url: archiveOf(serverName),
        model_name: serverName,
        initial_workers: "1",
        synchronous: "true",
      });
      const register = { method: "POST", path: `/models?${query.toString()}`, timeoutMs: longestLoadMs, signal } as const;
      let answer = await http.call(register);
      if (answer.kind === "answer" && answer.status === 409) {
        // Of a load that nobody remembers: which archive that was is not known.
        const unloaded = await unload(serverName, signal);
        if (unloaded.kind === "failed") return unloaded;
        answer = await http.call(register);
      }
      if (answer.kind !== "answer") return unanswered(answer);
      if (answer.status !== 200) {
        // It may stay registered without a worker.
        const unloaded = await unload(serverName, signal);
        if (unloaded.kind === "failed") return unloaded;
        if (answer.status === 404)
          return failedWith("pod", "TorchServe does not see the archive in its model store", wordsOf(answer));
        // Of a worker for which there was no memory it says so by the status alone, of one that the kernel killed too.
        const failure = answer.status === 507 ? "capacity" : "model";
        return failedWith(failure, "TorchServe could not load it", wordsOf(answer));
      }
      const workers = (await describe(http, serverName, signal)) ?? [];
      const sizes = await Promise.all(workers.map((worker) => sizeOf(worker, signal)));
      const sizeBytes = sizes.reduce((sum, bytes) => sum + bytes, 0);
      return { kind: "ok", ...(sizeBytes > 0 ? { sizeBytes } : {}) };
    },
    unload,
    forget: (serverName) => rm(join(store, archiveOf(serverName)), { force: true }),
    [Symbol.asyncDispose]: () => http[Symbol.asyncDispose](),
  };
}

async function putArchive(request: LoadRequest, store: string, archive: string): Promise<Done> {
  const { path, signal } = request;
  try {
    const read = await readLayoutRequest(request, { isText: () => false });
    const plan = "reason" in read ? read : layoutTorchserve(read, archive);
    if ("reason" in plan) return { kind: "failed", failure: "model", reason: plan.reason };
    await mkdir(store, { recursive: true });
    for (const entry of plan.entries) {
      if (entry.kind !== "link") continue;
      const single = "artefact" in read && read.artefact.kind === "file";
      const to = join(store, entry.to);
      await rm(to, { force: true });
      await linkFile(single ? path : join(path, entry.from), to);
    }
    return { kind: "ok" };
  } catch (error) {
    signal.throwIfAborted();
    return classifyLayout(error, path);
  }
}

/** Undefined: no answer. */
async function describe(http: HttpCaller, serverName: string, signal: AbortSignal): Promise<readonly Worker[] | undefined> {
  const answer = await http.call({ method: "GET", path: `/models/${serverName}`, timeoutMs: callTimeoutMs, signal });
  if (answer.kind !== "answer") return undefined;
  if (answer.status === 404) return [];
  const described = describedSchema.safeParse(answer.json);
  return described.success ? described.data.flatMap(({ workers }) => workers) : undefined;
}

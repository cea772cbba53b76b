// Owns the conversation with Triton over gRPC, in explicit model control.
// https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_repository.md
//
// - Loads go over gRPC, since over HTTP each of them takes one of few threads, health checks wait behind them.
// - Unloading is answered at once and done later: the memory is free when the index says UNAVAILABLE.
// - A model whose file is missing loads for ever: the layout looks for it, and every load has a deadline.
// - A backend process that has died stays dead, and its model ready, until it is unloaded and loaded; see tritonhealth.ts.
//   Unloading it never ends in the index, but loading it anew works.

import { create } from "@bufbuild/protobuf";
import { longestLoadMs } from "#core/loadqueue.ts";
import { orAborted, sleep } from "#platform/clock.ts";
import { createClient } from "#platform/grpc.ts";
import {
  GRPCInferenceService,
  type MemoryUsage,
  type RepositoryIndexResponse_ModelIndex as ModelIndex,
  ModelReadyRequestSchema,
  ModelStatisticsRequestSchema,
  RepositoryIndexRequestSchema,
  RepositoryModelLoadRequestSchema,
  RepositoryModelUnloadRequestSchema,
  ServerLiveRequestSchema,
} from "#proto/gen/inference/open_inference_pb.ts";
import { layoutTriton } from "../layout/triton.ts";
import type { Failure } from "./driver.ts";
import type { Done, ForeignServer, LoadedThere } from "./foreignserver.ts";
import { ask, channelOptions, isUnanswered, unansweredCall } from "./grpc.ts";
import { failedWith } from "./http.ts";
import { type AcceleratorBudget, type MemoryUse, weigh } from "./memory/accelerator.ts";
import { createRepository, type Layout } from "./repository.ts";
import { createTritonHealth, type TritonClient } from "./tritonhealth.ts";

export interface TritonOptions {
  /** `host:port` of its gRPC port. */
  readonly address: string;
  /** Its --model-repository. */
  readonly repository: string;
  /** Absent: what models take on accelerators counts as what they take of the machine's memory. */
  readonly budget?: AcceleratorBudget | undefined;
}

const callTimeoutMs = 5_000;
const indexEveryMs = 100;

const layout: Layout = {
  plan: layoutTriton,
  isText: (file) => file === "config.pbtxt" || file.endsWith("/config.pbtxt"),
};

export function createTriton({ address, repository, budget }: TritonOptions): ForeignServer {
  const client = createClient(GRPCInferenceService, address, undefined, { channel: channelOptions });
  const models = createRepository({ folder: repository, namesMatter: true });
  const readIndex = createIndexReader(client);
  const health = createTritonHealth(client);

  const unload = async (serverName: string, signal: AbortSignal): Promise<Done> => {
    return await unloadOne(serverName, await health.isDead(serverName, signal), signal);
  };
  const unloadOne = async (serverName: string, dead: boolean, signal: AbortSignal): Promise<Done> => {
    const request = create(RepositoryModelUnloadRequestSchema, { modelName: serverName });
    const called = await ask(client.repositoryModelUnload(request, { timeoutMs: callTimeoutMs, signal }), signal);
    if (called.kind === "error") {
      return isUnanswered(called) ? unansweredCall(called) : failedWith("pod", "Triton did not unload it", called.words);
    }
    // Triton waits for a dead process for ever; its memory is free already.
    if (dead) return { kind: "ok" };
    for (;;) {
      const index = await readIndex(signal);
      if ("kind" in index) return index;
      if (!index.some((entry) => entry.name === serverName && takesMemory(entry))) return { kind: "ok" };
      await sleep(indexEveryMs, signal);
    }
  };

  return {
    keepsArtefact: true,
    address,
    http2: true,
    live: async (signal) => {
      const called = await ask(client.serverLive(create(ServerLiveRequestSchema), { timeoutMs: callTimeoutMs, signal }), signal);
      return called.kind === "ok" && called.answer.live;
    },
    async index(signal): Promise<{ readonly kind: "ok"; readonly names: ReadonlySet<string> } | Failure> {
      const index = await readIndex(signal);
      if ("kind" in index) return index;
      const ready = new Set(index.filter(({ state }) => state === "READY").map(({ name }) => name));
      for (const name of await health.findDead(ready, signal)) {
        const unloaded = await unloadOne(name, true, signal);
        if (unloaded.kind === "ok") ready.delete(name);
      }
      return { kind: "ok", names: ready };
    },
    async ready(serverName, signal): Promise<boolean | undefined> {
      const request = create(ModelReadyRequestSchema, { name: serverName });
      const called = await ask(client.modelReady(request, { timeoutMs: callTimeoutMs, signal }), signal);
      if (called.kind === "ok") return called.answer.ready;
      return isUnanswered(called) ? undefined : false;
    },
    async load(request): Promise<LoadedThere | Failure> {
      const { serverName, signal } = request;
      const made = await models.make(request, layout);
      if (made.kind === "failed") return made;
      const message = create(RepositoryModelLoadRequestSchema, { modelName: serverName });
      const called = await ask(client.repositoryModelLoad(message, { timeoutMs: longestLoadMs, signal }), signal);
      if (called.kind === "ok") return { kind: "ok", ...(await measure(client, serverName, budget, signal)) };
      if (isUnanswered(called)) return unansweredCall(called);
      // Some of its versions may have been loaded before another one failed.
      await unload(serverName, signal).catch(() => undefined);
      signal.throwIfAborted();
      return failedWith("model", "Triton could not load it", called.words);
    },
    unload,
    forget: (serverName) => models.remove(serverName),
    async [Symbol.asyncDispose](): Promise<void> {
      client[Symbol.dispose]();
    },
  };
}

/** A failed or unloaded model is in the index as long as its folder is. */
function takesMemory({ state }: ModelIndex): boolean {
  return state === "READY" || state === "LOADING" || state === "UNLOADING";
}

/** However many wait for it, the index is read once at a time: it is as long as there are models. */
function createIndexReader(client: TritonClient): (signal: AbortSignal) => Promise<readonly ModelIndex[] | Failure> {
  let reading: Promise<readonly ModelIndex[] | Failure> | undefined;
  const read = async (): Promise<readonly ModelIndex[] | Failure> => {
    const never = new AbortController().signal;
    const called = await ask(client.repositoryIndex(create(RepositoryIndexRequestSchema), { timeoutMs: callTimeoutMs }), never);
    return called.kind === "ok" ? called.answer.models : unansweredCall(called);
  };
  return async (signal) => {
    signal.throwIfAborted();
    // One that began before may not know what has happened since.
    await reading?.catch(() => undefined);
    signal.throwIfAborted();
    const mine = (reading ??= read().finally(() => {
      reading = undefined;
    }));
    return await orAborted(mine, signal);
  };
}

/** Few backends tell it; of the others the size is what was expected. */
async function measure(
  client: TritonClient,
  serverName: string,
  budget: AcceleratorBudget | undefined,
  signal: AbortSignal,
): Promise<Omit<LoadedThere, "kind">> {
  const request = create(ModelStatisticsRequestSchema, { name: serverName });
  const called = await ask(client.modelStatistics(request, { timeoutMs: callTimeoutMs, signal }), signal);
  if (called.kind === "error") return {};
  const uses = called.answer.modelStats.flatMap(({ memoryUsage }) => memoryUsage.map(useOf));
  const { machineBytes, leastBytes } = weigh(uses, budget);
  return { ...(machineBytes === undefined ? {} : { sizeBytes: machineBytes }), ...(leastBytes > 0 ? { leastBytes } : {}) };
}

function useOf({ type, id, byteSize }: MemoryUsage): MemoryUse {
  // What is not GPU is CPU or CPU_PINNED.
  return { device: type === "GPU" ? { kind: "accelerator", id: `${id}` } : { kind: "machine" }, bytes: Number(byteSize) };
}

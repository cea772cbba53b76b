// Owns the conversation with model servers that speak the runtime contract of ModelMesh (mmesh.ModelRuntime), unchanged.
//
//   connected --runtimeStatus: STARTING--> asked again --READY--> what this adapter remembers is unloaded --> up
//
// - runtimeStatus makes a runtime drop all that it holds, so it is asked once in each life and never as a health check.
//   Whether the runtime lives is told by the connection alone.
// - A runtime cannot tell what it holds: after a start of the adapter it is taken to be empty, and made so.
// - FAILED_PRECONDITION and INVALID_ARGUMENT mean that nothing was tried. Every other failed or cancelled load is followed
//   by an unload.

import { stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { status as codes } from "@grpc/grpc-js";
import { longestLoadMs } from "#core/loadqueue.ts";
import { createClient } from "#platform/grpc.ts";
import {
  LoadModelRequestSchema,
  ModelRuntime,
  ModelSizeRequestSchema,
  PredictModelSizeRequestSchema,
  RuntimeStatusRequestSchema,
  RuntimeStatusResponse_Status as Status,
  UnloadModelRequestSchema,
} from "#proto/gen/mmesh/model_runtime_pb.ts";
import { placeOf } from "../pull/unfetched.ts";
import { artefactBytes } from "./artefact.ts";
import type { Artefact, Failure, LoadRequest, ServerLimits } from "./driver.ts";
import type { Done, ForeignServer } from "./foreignserver.ts";
import { ask, channelOptions, isUnanswered, unansweredCall } from "./grpc.ts";
import { failedWith } from "./http.ts";

export interface ModelmeshOptions {
  /** `host:port` or `unix:/path` of its management service. */
  readonly address: string;
  /** It fetches artefacts by itself, and is told where they lie. */
  readonly fetches?: boolean | undefined;
}

const statusTimeoutMs = 10_000;
const callTimeoutMs = 30_000;
const sizeTimeoutMs = 10_000;
const predictTimeoutMs = 500;
const leastLoadMs = 100;
/** Its messages are named anyway. */
const openInference = "inference.GRPCInferenceService/";

const unable: ReadonlySet<number> = new Set([codes.UNIMPLEMENTED]);
const absent: ReadonlySet<number> = new Set([codes.NOT_FOUND]);
const nothingTried: ReadonlySet<number> = new Set([codes.FAILED_PRECONDITION, codes.INVALID_ARGUMENT]);
const exhausted: ReadonlySet<number> = new Set([codes.RESOURCE_EXHAUSTED]);

export function createModelmesh({ address, fetches = false }: ModelmeshOptions): ForeignServer {
  const client = createClient(ModelRuntime, address, undefined, { channel: channelOptions });
  let limits: ServerLimits = {};
  /** Not any more once it says that it cannot. */
  let predicts = true;

  const unload = async (modelId: string, signal: AbortSignal): Promise<Done> => {
    const request = create(UnloadModelRequestSchema, { modelId });
    const called = await ask(client.unloadModel(request, { timeoutMs: callTimeoutMs, signal }), signal);
    if (called.kind === "ok" || absent.has(called.code)) return { kind: "ok" };
    return isUnanswered(called) ? unansweredCall(called) : failedWith("pod", "the runtime did not unload it", called.words);
  };

  const measure = async (modelId: string, signal: AbortSignal): Promise<number> => {
    const request = create(ModelSizeRequestSchema, { modelId });
    const called = await ask(client.modelSize(request, { timeoutMs: sizeTimeoutMs, signal }), signal);
    return called.kind === "ok" ? Number(called.answer.sizeInBytes) : 0;
  };

  return {
    keepsArtefact: true,
    cancelsLoads: true,
    address,
    http2: true,
    async greet(remembered, signal): Promise<Done> {
      const request = create(RuntimeStatusRequestSchema);
      const called = await ask(client.runtimeStatus(request, { timeoutMs: statusTimeoutMs, signal }), signal);
      if (called.kind === "error") return unansweredCall(called);
      const { status, modelLoadingTimeoutMs, capacityInBytes, maxLoadingConcurrency, methodInfos } = called.answer;
      const { defaultModelSizeInBytes, limitModelConcurrency } = called.answer;
      if (status !== Status.READY) {
        return {
          kind: "failed",
          failure: "pod",
          reason: `the runtime says that it is ${status === Status.STARTING ? "starting" : "failing"}`,
        };
      }
      limits = {
        ...(capacityInBytes > 0n ? { capacityBytes: Number(capacityInBytes) } : {}),
        ...(maxLoadingConcurrency > 0 ? { loadConcurrency: maxLoadingConcurrency } : {}),
        ...(modelLoadingTimeoutMs > 0 ? { loadTimeoutMs: clampTimeout(modelLoadingTimeoutMs) } : {}),
        ...(defaultModelSizeInBytes > 0n ? { defaultSizeBytes: Number(defaultModelSizeInBytes) } : {}),
        // Requests go from Envoy straight to it, through clusters that many models share: nothing counts those of one model.
        ...(limitModelConcurrency ? { unheeded: ["limitModelConcurrency"] } : {}),
        idInjections: Object.entries(methodInfos).flatMap(([method, { idInjectionPath: path }]) =>
          path.length > 0 && !method.startsWith(openInference) ? [{ method, path }] : [],
        ),
      };
      predicts = true;
      // It should have purged itself; unloading what is not there is well.
      for (const modelId of remembered) {
        const unloaded = await unload(modelId, signal);
        if (unloaded.kind === "failed") return unloaded;
      }
      return { kind: "ok" };
    },
    limits: () => limits,
    async predictBytes(request, signal): Promise<number | undefined> {
      if (!predicts) return undefined;
      const { serverName: modelId, artefactBytes } = request;
      const { path: modelPath, key } = whereabouts(request, request);
      const modelKey = JSON.stringify(fetches ? key : { ...key, disk_size_bytes: artefactBytes });
      const message = create(PredictModelSizeRequestSchema, { modelId, modelType: labelOf(request), modelPath, modelKey });
      const called = await ask(client.predictModelSize(message, { timeoutMs: predictTimeoutMs, signal }), signal);
      if (called.kind === "error" && unable.has(called.code)) predicts = false;
      return called.kind === "ok" && called.answer.sizeInBytes > 0n ? Number(called.answer.sizeInBytes) : undefined;
    },
    async load(request): Promise<{ readonly kind: "ok"; readonly sizeBytes?: number } | Failure> {
      const { serverName: modelId, path, signal, artefact } = request;
      const modelKey = fetches && artefact !== undefined ? whereabouts(request, artefact).key : await modelKeyOf(request);
      if (modelKey === undefined)
        return { kind: "failed", failure: "storage", reason: "the artefact is not on the disk any more" };
      const message = create(LoadModelRequestSchema, {
        modelId,
        modelType: labelOf(request),
        modelPath: path,
        modelKey: JSON.stringify(modelKey),
      });
      const called = await ask(client.loadModel(message, { timeoutMs: limits.loadTimeoutMs ?? longestLoadMs, signal }), signal);
      if (called.kind === "ok") {
        const sizeBytes = Number(called.answer.sizeInBytes) || (await measure(modelId, signal));
        return { kind: "ok", ...(sizeBytes > 0 ? { sizeBytes } : {}) };
      }
      if (isUnanswered(called)) return unansweredCall(called);
      const failed = failedWith("model", "the runtime could not load it", called.words);
      if (nothingTried.has(called.code)) return failed;
      const unloaded = await unload(modelId, signal);
      if (unloaded.kind === "failed") return unloaded;
      return exhausted.has(called.code) ? { ...failed, failure: "capacity" } : failed;
    },
    // Runtimes need not tell sizes; what does not know the model says so.
    async denies(modelId, signal): Promise<boolean> {
      const request = create(ModelSizeRequestSchema, { modelId });
      const called = await ask(client.modelSize(request, { timeoutMs: predictTimeoutMs, signal }), signal);
      return called.kind === "error" && absent.has(called.code);
    },
    unload,
    async [Symbol.asyncDispose](): Promise<void> {
      client[Symbol.dispose]();
    },
  };
}

/** As ModelMesh's puller hands it on. */
async function modelKeyOf(request: LoadRequest): Promise<Record<string, unknown> | undefined> {
  const { path, schemaPath } = request;
  const sizeBytes = await artefactBytes(path);
  if (sizeBytes === undefined) return undefined;
  return {
    model_type: modelTypeOf(request),
    disk_size_bytes: sizeBytes,
    ...(schemaPath === undefined ? {} : { schema_path: join(await folderOf(path), schemaPath) }),
  };
}

/** As ModelMesh tells whoever fetches by himself. */
function whereabouts(
  formatted: Formatted,
  artefact: Artefact,
): { readonly path: string; readonly key: Readonly<Record<string, unknown>> } {
  const { path, parameters } = placeOf(artefact);
  const { storageKey, schemaPath } = artefact;
  const key = {
    ...(storageKey === undefined ? {} : { storage_key: storageKey }),
    ...(Object.keys(parameters).length === 0 ? {} : { storage_params: parameters }),
    model_type: modelTypeOf(formatted),
    ...(schemaPath === undefined ? {} : { schema_path: schemaPath }),
  };
  return { path, key };
}

function clampTimeout(timeoutMs: number): number {
  return Math.min(longestLoadMs, Math.max(leastLoadMs, timeoutMs));
}

type Formatted = Pick<LoadRequest, "format" | "formatVersion">;

function modelTypeOf({ format, formatVersion }: Formatted): Record<string, string> {
  return { name: format, ...(formatVersion === undefined ? {} : { version: formatVersion }) };
}

function labelOf({ format, formatVersion }: Formatted): string {
  return formatVersion === undefined ? `mt:${format}` : `mt:${format}:${formatVersion}`;
}

async function folderOf(path: string): Promise<string> {
  return (await stat(path)).isDirectory() ? path : dirname(path);
}

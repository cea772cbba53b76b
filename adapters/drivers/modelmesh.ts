// Owns the conversation with model servers that speak the runtime contract of ModelMesh (mmesh.ModelRuntime), unchanged.
//
//   connected --runtimeStatus: STARTING--> asked again --READY--> what this adapter remembers is unloaded --> up
//
// - runtimeStatus makes a runtime drop all that it holds, so it is asked once in each life and never as a health check.
//   Whether the runtime lives is told by the connection alone.
// - A runtime cannot tell what it holds: after a start of the adapter it is taken to be empty, and made so.
// - FAILED_PRECONDITION and INVALID_ARGUMENT mean that nothing was tried. Every other failed or cancelled load is followed
//   by an unload.
import { readdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { status as codes } from "@grpc/grpc-js";
import { createClient } from "#platform/grpc.ts";
import {
  LoadModelRequestSchema,
  ModelRuntime,
  ModelSizeRequestSchema,
  RuntimeStatusRequestSchema,
  RuntimeStatusResponse_Status as Status,
  UnloadModelRequestSchema,
} from "#proto/gen/mmesh/model_runtime_pb.ts";
import type { Failure, LoadRequest } from "./driver.ts";
import type { Done, ForeignServer } from "./foreign.ts";
import { ask, channelOptions, isUnanswered, unansweredCall } from "./grpc.ts";
import { failedWith } from "./http.ts";

export interface ModelmeshOptions {
  /** `host:port` or `unix:/path` of its management service. */
  readonly address: string;
}

const statusTimeoutMs = 10_000;
const callTimeoutMs = 30_000;
const sizeTimeoutMs = 10_000;
const defaultLoadTimeoutMs = 90_000;
const maxFiles = 10_000;

const absent: ReadonlySet<number> = new Set([codes.NOT_FOUND]);
const nothingTried: ReadonlySet<number> = new Set([codes.FAILED_PRECONDITION, codes.INVALID_ARGUMENT]);
const exhausted: ReadonlySet<number> = new Set([codes.RESOURCE_EXHAUSTED]);

export function createModelmesh({ address }: ModelmeshOptions): ForeignServer {
  const client = createClient(ModelRuntime, address, undefined, { channel: channelOptions });
  let loadTimeoutMs = defaultLoadTimeoutMs;

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
      const { status, modelLoadingTimeoutMs } = called.answer;
      if (status !== Status.READY) {
        return {
          kind: "failed",
          failure: "pod",
          reason: `the runtime says that it is ${status === Status.STARTING ? "starting" : "failing"}`,
        };
      }
      loadTimeoutMs = modelLoadingTimeoutMs > 0 ? modelLoadingTimeoutMs : defaultLoadTimeoutMs;
      // It should have purged itself; unloading what is not there is well.
      for (const modelId of remembered) {
        const unloaded = await unload(modelId, signal);
        if (unloaded.kind === "failed") return unloaded;
      }
      return { kind: "ok" };
    },
    async load(request): Promise<{ readonly kind: "ok"; readonly sizeBytes?: number } | Failure> {
      const { serverName: modelId, path, format, formatVersion, signal } = request;
      const modelKey = await modelKeyOf(request);
      if (modelKey === undefined)
        return { kind: "failed", failure: "storage", reason: "the artefact is not on the disk any more" };
      const message = create(LoadModelRequestSchema, {
        modelId,
        modelType: formatVersion === undefined ? `mt:${format}` : `mt:${format}:${formatVersion}`,
        modelPath: path,
        modelKey: JSON.stringify(modelKey),
      });
      const called = await ask(client.loadModel(message, { timeoutMs: loadTimeoutMs, signal }), signal);
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
    unload,
    async [Symbol.asyncDispose](): Promise<void> {
      client[Symbol.dispose]();
    },
  };
}

/** As ModelMesh's puller hands it on. */
async function modelKeyOf({
  path,
  format,
  formatVersion,
  schemaPath,
}: LoadRequest): Promise<Record<string, unknown> | undefined> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) return undefined;
  const schemaFolder = found.isDirectory() ? path : dirname(path);
  return {
    model_type: { name: format, ...(formatVersion === undefined ? {} : { version: formatVersion }) },
    disk_size_bytes: found.isDirectory() ? await folderBytes(path) : found.size,
    ...(schemaPath === undefined ? {} : { schema_path: join(schemaFolder, schemaPath) }),
  };
}

async function folderBytes(folder: string): Promise<number> {
  let sizeBytes = 0;
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  for (const entry of entries.slice(0, maxFiles)) {
    if (entry.isFile()) sizeBytes += (await stat(join(entry.parentPath, entry.name))).size;
  }
  return sizeBytes;
}

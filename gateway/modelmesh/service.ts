// Owns the ModelMesh service: management as KServe ModelMesh's clients know it, on a port of its own.
// What a load did is told in the status of the answer, never as an error of the call; a wait ends with the caller's
// deadline. Ids that are not allowed here are not there, for whoever only asks.
import { create } from "@bufbuild/protobuf";
import { Metadata, type ServerUnaryCall, type sendUnaryData, status } from "@grpc/grpc-js";
import { type ErrorCode, errorCatalogue, errorMessage, WarmpathError } from "#core/errors.ts";
import { type Model, parseModelName } from "#core/model.ts";
import type { Refusal, RevisionSpec } from "#core/revision.ts";
import { sleep } from "#platform/clock.ts";
import type { ServiceHandlers } from "#platform/grpc.ts";
import type { Log } from "#platform/log.ts";
import {
  DeleteVModelResponseSchema,
  type ModelInfo,
  type ModelMesh,
  ModelStatusInfo_ModelStatus as ModelStatus,
  type ModelStatusInfo,
  ModelStatusInfoSchema,
  UnregisterModelResponseSchema,
  VModelStatusInfo_VModelStatus as VModelStatus,
  type VModelStatusInfo,
  VModelStatusInfoSchema,
} from "#proto/gen/mmesh/model_mesh_pb.ts";
import { type Callers, mayCall, whyNot } from "../admin/callers.ts";
import type { Models } from "../admin/models.ts";
import type { CopyStatus, RevisionStatus } from "../admin/status.ts";
import { readModelInfo } from "./info.ts";
import { isVModel, type VModels } from "./vmodels.ts";

export interface ModelMeshParts {
  readonly findModel: (name: string) => Model | undefined;
  readonly models: Pick<Models, "describe" | "load">;
  readonly vmodels: VModels;
  readonly log: Log;
  /** Who may call, by bearer token; everybody when absent. */
  readonly callers?: Callers | undefined;
}

type Answered<T> = Promise<T | Refusal>;

const longestWaitMs = 600_000;
const lookMs = 25;
const states: Readonly<Record<RevisionStatus["state"], ModelStatus>> = {
  cold: ModelStatus.NOT_LOADED,
  loading: ModelStatus.LOADING,
  ready: ModelStatus.LOADED,
  failed: ModelStatus.LOADING_FAILED,
};
const copyStates: Readonly<Record<CopyStatus["state"], ModelStatus>> = {
  queued: ModelStatus.LOADING,
  loading: ModelStatus.LOADING,
  ready: ModelStatus.LOADED,
  leaving: ModelStatus.UNKNOWN,
  failed: ModelStatus.LOADING_FAILED,
};

export function createModelMesh(parts: ModelMeshParts): ServiceHandlers<typeof ModelMesh> {
  const { findModel, models, vmodels } = parts;

  /** Of one revision of each of the models that hold the same concrete model. */
  function statusOf(held: readonly (readonly [model: Model, revision: string])[]): ModelStatusInfo {
    const seen = held.map(([model, revision]) => {
      const { copies, revisionStates } = models.describe(model);
      const own = copies.filter((copy) => copy.revision === revision);
      return { own, state: revisionStates.find(({ id }) => id === revision) };
    });
    const order: readonly RevisionStatus["state"][] = ["ready", "loading", "failed", "cold"];
    const state = order.find((wanted) => seen.some((one) => one.state?.state === wanted)) ?? "cold";
    const failures = seen.flatMap(({ own, state: of }) => [
      ...(of?.failure === undefined ? [] : [of.failure]),
      ...own.flatMap(({ failure }) => (failure === undefined ? [] : [failure])),
    ]);
    const errors = failures.toSorted((a, b) => (b.atMs ?? 0) - (a.atMs ?? 0)).map(({ reason }) => reason);
    const copies = seen.flatMap(({ own }) => own).toSorted((a, b) => (b.sinceMs ?? 0) - (a.sinceMs ?? 0));
    return create(ModelStatusInfoSchema, {
      status: states[state],
      errors: state === "ready" ? [] : [...new Set(errors)],
      modelCopyInfos: copies.map(({ pod, state: at, sinceMs }) => ({
        location: pod,
        copyStatus: copyStates[at],
        time: BigInt(Math.round(sinceMs ?? 0)),
      })),
    });
  }

  /** The concrete model itself, and wherever a vmodel serves it. */
  function holdersOf(model: Model): (readonly [Model, string])[] {
    return [[model, model.active], ...vmodels.referrers(model).map((vmodel) => [vmodel, model.name] as const)];
  }

  function modelStatus(id: string): ModelStatusInfo {
    const model = findModel(id);
    return model === undefined || model.modelmesh?.kind === "vmodel" ? notFound() : statusOf(holdersOf(model));
  }

  function vmodelStatus(name: string, owner: string): VModelStatusInfo {
    const model = findModel(name);
    const own = model?.modelmesh?.kind === "vmodel" ? (model.modelmesh.owner ?? "") : "";
    if (model === undefined || !isVModel(model) || (owner !== "" && own !== owner)) {
      return create(VModelStatusInfoSchema, { status: VModelStatus.NOT_FOUND, activeModelStatus: notFound() });
    }
    const { active, target } = model;
    return create(VModelStatusInfoSchema, {
      status:
        target === undefined
          ? VModelStatus.DEFINED
          : model.failure === undefined
            ? VModelStatus.TRANSITIONING
            : VModelStatus.TRANSITION_FAILED,
      activeModelId: active,
      targetModelId: target ?? active,
      activeModelStatus: statusOf([[model, active]]),
      ...(target === undefined ? {} : { targetModelStatus: statusOf([[model, target]]) }),
      owner: own,
    });
  }

  /** Where requests for the concrete model go: through its vmodel, when it has one. */
  async function load(id: string, revision: string | undefined, wait: boolean, call: Waiting): Promise<void> {
    // How it ended is in the status.
    await models.load(id, { revision, copies: 1, wait, timeoutMs: Math.max(1, call.leftMs()), signal: call.signal });
  }

  async function loadConcrete(id: string, wait: boolean, call: Waiting): Promise<void> {
    const model = findModel(id);
    const referrer = model === undefined ? undefined : vmodels.referrers(model)[0];
    await (referrer === undefined ? load(id, undefined, wait, call) : load(referrer.name, id, wait, call));
  }

  async function settled(name: string, call: Waiting): Promise<void> {
    for (;;) {
      const model = findModel(name);
      if (model?.target === undefined || model.failure !== undefined || call.signal.aborted || call.leftMs() <= 0) return;
      await sleep(lookMs);
    }
  }

  return {
    registerModel: unary(parts, "write", async ({ modelId, modelInfo, loadNow, sync }, call) => {
      const spec = readInfo(modelId, modelId, modelInfo);
      if (spec.kind === "refused") return spec;
      const done = await vmodels.registerConcrete(modelId, spec.spec);
      if (done.kind === "refused") return done;
      if (loadNow) await loadConcrete(modelId, sync, call);
      return modelStatus(modelId);
    }),
    unregisterModel: unary(parts, "write", async ({ modelId }) => {
      if (!isId(modelId)) return modelId === "" ? noId("modelId") : create(UnregisterModelResponseSchema);
      const done = await vmodels.unregisterConcrete(modelId);
      return done.kind === "refused" ? done : create(UnregisterModelResponseSchema);
    }),
    getModelStatus: unary(parts, "read", async ({ modelId }) => (modelId === "" ? noId("modelId") : modelStatus(modelId))),
    ensureLoaded: unary(parts, "write", async ({ modelId, sync }, call) => {
      if (modelId === "") return noId("modelId");
      if (findModel(modelId)?.modelmesh?.kind === "vmodel" || findModel(modelId) === undefined) return notFound();
      await loadConcrete(modelId, sync, call);
      return modelStatus(modelId);
    }),
    setVModel: unary(parts, "write", async (request, call) => {
      const { vModelId, targetModelId, modelInfo, owner, loadNow, sync } = request;
      const name = parseModelName(vModelId);
      if (name.kind === "refused") return { kind: "refused", code: "invalid-request", reason: `vModelId: ${name.reason}` };
      if (vModelId === targetModelId)
        return { kind: "refused", code: "invalid-request", reason: "a vmodel and its target must have different ids" };
      const spec = modelInfo === undefined ? undefined : readInfo(targetModelId, targetModelId, modelInfo);
      if (spec?.kind === "refused") return spec;
      const target = parseModelName(targetModelId);
      if (target.kind === "refused")
        return { kind: "refused", code: "invalid-request", reason: `targetModelId: ${target.reason}` };
      const done = await vmodels.set({
        name: vModelId,
        owner,
        target: targetModelId,
        spec: spec?.spec,
        autoDelete: modelInfo !== undefined && request.autoDeleteTargetModel,
        updateOnly: request.updateOnly,
        loadNow,
        force: request.force,
        expectedTarget: request.expectedTargetModelId,
      });
      if (done.kind === "refused") return done;
      // A pointer that has moved already: the load is of what it points at now.
      if (loadNow && done.model.target === undefined) await load(vModelId, targetModelId, sync, call);
      if (sync) await settled(vModelId, call);
      return vmodelStatus(vModelId, owner);
    }),
    deleteVModel: unary(parts, "write", async ({ vModelId, owner }) => {
      if (!isId(vModelId)) return vModelId === "" ? noId("vModelId") : create(DeleteVModelResponseSchema);
      const done = await vmodels.delete(vModelId, owner);
      return done.kind === "refused" ? done : create(DeleteVModelResponseSchema);
    }),
    getVModelStatus: unary(parts, "read", async ({ vModelId, owner }) =>
      vModelId === "" ? noId("vModelId") : vmodelStatus(vModelId, owner),
    ),
  };
}

interface Waiting {
  /** Aborted when the caller has gone. */
  readonly signal: AbortSignal;
  /** Until the caller's deadline; what is answered must still reach him. */
  leftMs(): number;
}

function unary<Request, Response extends object>(
  { log, callers }: Pick<ModelMeshParts, "log" | "callers">,
  role: "read" | "write",
  handle: (request: Request, call: Waiting) => Answered<Response>,
): (call: ServerUnaryCall<Request, Response>, answer: sendUnaryData<Response>) => void {
  return (call, answer) => {
    const gone = new AbortController();
    call.on("cancelled", () => gone.abort());
    const deadline = Number(call.getDeadline());
    const untilMs = Math.min(Date.now() + longestWaitMs, Number.isFinite(deadline) ? deadline - 100 : Number.POSITIVE_INFINITY);
    const waiting = { signal: gone.signal, leftMs: () => untilMs - Date.now() };
    const answered = async (): Answered<Response> =>
      (callers === undefined ? undefined : await checkCaller(callers, call.metadata, role)) ??
      (await handle(call.request, waiting));
    answered().then(
      (response) => {
        if (!isRefusal(response)) return answer(null, response);
        const metadata = new Metadata();
        metadata.set("x-warm-code", response.code);
        return answer({ code: statusOf(response.code), details: response.reason, metadata });
      },
      (error: unknown) => {
        const code = error instanceof WarmpathError ? statusOf(error.code) : status.INTERNAL;
        log.error("a ModelMesh call failed", { error });
        answer({ code, details: errorMessage(error) });
      },
    );
  };
}

async function checkCaller(callers: Callers, metadata: Metadata, role: "read" | "write"): Promise<Refusal | undefined> {
  const token = /^Bearer +(\S+)$/i.exec(String(metadata.get("authorization")[0] ?? ""))?.[1];
  const caller = token === undefined ? undefined : await callers.find(token);
  if (caller === undefined)
    return { kind: "refused", code: "unauthenticated", reason: "a token is needed: authorization: Bearer TOKEN" };
  return mayCall(caller, role) ? undefined : { kind: "refused", code: "permission-denied", reason: whyNot(caller) };
}

function isRefusal(value: object): value is Refusal {
  return "kind" in value && value.kind === "refused";
}

function readInfo(
  id: string,
  revision: string,
  info: ModelInfo | undefined,
): { readonly kind: "ok"; readonly spec: RevisionSpec } | Refusal {
  const name = parseModelName(id);
  if (name.kind === "refused") return { kind: "refused", code: "invalid-request", reason: `modelId: ${name.reason}` };
  if (info === undefined) return { kind: "refused", code: "invalid-request", reason: "modelInfo is missing" };
  const spec = readModelInfo(revision, info);
  return spec.kind === "ok"
    ? { kind: "ok", spec: spec.found }
    : { kind: "refused", code: "invalid-request", reason: spec.reason };
}

function isId(id: string): boolean {
  return parseModelName(id).kind === "ok";
}

function noId(field: string): Refusal {
  return { kind: "refused", code: "invalid-request", reason: `${field} must not be empty` };
}

function notFound(): ModelStatusInfo {
  return create(ModelStatusInfoSchema, { status: ModelStatus.NOT_FOUND });
}

const statuses = new Map<number, status>(
  Object.values(status)
    .filter((value) => typeof value === "number")
    .map((value) => [value, value]),
);

/** The catalogue's number as grpc-js has it. */
function statusOf(code: ErrorCode): status {
  return statuses.get(errorCatalogue[code].grpc) ?? status.UNKNOWN;
}

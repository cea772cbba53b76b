// Owns how one name is made to be in the registry what the objects of that name say, and how they are told what became of
// it. Level-triggered: everything is read from the copies of the API server's objects and the registry's records.
// Invariants: a record without our mark is never touched; a record whose object is gone is deleted, whenever the object
// went; each write to the registry expects what was read, so a controller that lost its lease changes nothing.
import { createHash } from "node:crypto";
import type { Model } from "#core/model.ts";
import type { Clock } from "#platform/clock.ts";
import type { Log } from "#platform/log.ts";
import { deleteModel, getModel, putModel } from "#platform/registry/records.ts";
import type { Registry } from "#platform/registry/registry.ts";
import { changesStatus } from "../conditions.ts";
import type { KubeClient } from "../engine/client.ts";
import { type ResourceType } from "../engine/objects.ts";
import { done, type Outcome } from "../engine/reconcile.ts";
import type { Recorder } from "../events.ts";
import type { Described, GatewayClient } from "../gateway.ts";
import { inferenceServices, models, predictors } from "../kinds.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { buildRecord, ownerOf, type PlacedRevision } from "./desired.ts";
import type { FirstLoads } from "./loading.ts";
import { findNews } from "./news.ts";
import { hasServed, readSaid } from "./said.ts";
import { selectRuntime } from "./selection.ts";
import type { Owner, Source } from "./source.ts";
import { buildStatus, type Endpoints } from "./status.ts";
import { type LoadSeen, type ModelView, type Obstacle, type Transition, viewModel, viewObstacle } from "./view.ts";

/** What is known of a model at one time. */
interface Seen {
  readonly failure: LoadSeen | undefined;
  readonly described: Described;
}

export interface ModelParts {
  readonly client: Pick<KubeClient, "mergeStatus">;
  readonly registry: Registry;
  /** The registry's records as last seen. */
  readonly records: { get(name: string): Model | undefined };
  readonly source: (owner: Owner, name: string) => Source | undefined;
  readonly runtimes: () => Iterable<Runtime>;
  readonly gateway: Pick<GatewayClient, "describe" | "isSettled">;
  readonly loads: FirstLoads;
  readonly runtimePods: (runtime: string) => number;
  /** The runtimes of the model's revisions; none when it is gone. */
  readonly onUse: (name: string, runtimes: readonly string[], claims: readonly string[]) => void;
  readonly endpoints: Endpoints;
  readonly namespace: string;
  readonly identity: string;
  readonly recorder: Recorder;
  readonly clock: Clock;
  readonly log: Log;
  /** Between two looks at a model at rest. */
  readonly restMs: () => number;
}

const owners: readonly Owner[] = ["isvc", "ksp", "model"];
const types: Readonly<Record<Owner, ResourceType>> = { isvc: inferenceServices, ksp: predictors, model: models };
const kinds: Readonly<Record<Owner, string>> = { isvc: "InferenceService", ksp: "Predictor", model: "Model" };
const transitMs = 1_000;
const noticeMs = 200;
const failedRestMs = 10_000;

export interface ModelReconciler {
  reconcile(name: string, signal: AbortSignal): Promise<Outcome>;
}

export function createModelReconciler(parts: ModelParts): ModelReconciler {
  const { client, registry, records, gateway, loads, clock, log } = parts;
  /**
   * Hashes of what was written last and of what the API server made of it: fields that its schema lacks do not come back. By
   * owner and name; forgotten with the name.
   */
  const written = new Map<
    string,
    { readonly uid: string; readonly wanted: string; readonly kept: string; readonly transition: Transition }
  >();

  async function writeStatus(source: Source, view: ModelView): Promise<void> {
    const status = buildStatus(source, view, parts.endpoints, clock.now());
    if (!changesStatus(status, source.status)) return;
    const wanted = hashOf(status);
    const key = `${source.owner}/${source.name}`;
    const last = written.get(key);
    if (last?.uid === source.uid && last.wanted === wanted && last.kept === hashOf(source.status)) return;
    const object = await client.mergeStatus(types[source.owner], source.namespace, source.name, status);
    if (object === undefined) return;
    written.set(key, { uid: source.uid, wanted, kept: hashOf(object.body["status"] ?? {}), transition: view.transition });
    announce(source, view);
  }

  /** What it was told last was not that it is up to date: with this spec, if it was told anything at all. */
  function isMoving(source: Source): boolean {
    const said = readSaid(source);
    if (said.transition === undefined) return false;
    // What was written may not have come back from the API server yet.
    const last = written.get(`${source.owner}/${source.name}`);
    const transition = last?.uid === source.uid ? last.transition : said.transition;
    return transition !== "UpToDate" || said.generation !== source.generation;
  }

  function announce(source: Source, view: ModelView): void {
    const { owner, name, namespace, uid } = source;
    const regarding = { kind: kinds[owner], type: types[owner], name, namespace, uid };
    for (const { type, reason, note } of findNews(source, view)) {
      if (type === "Warning") parts.recorder.warn(regarding, reason, note);
      else parts.recorder.tell(regarding, reason, note);
    }
  }

  async function remove(name: string): Promise<Outcome> {
    for (const owner of owners) written.delete(`${owner}/${name}`);
    const stored = await getModel(registry, name);
    loads.forget(name);
    parts.onUse(name, [], []);
    if (stored === undefined || !isOurs(stored.model, parts.namespace)) return done;
    const deleted = await deleteModel(registry, name, stored.revision);
    if (deleted.kind === "conflict") throw new Error("the record changed meanwhile");
    log.info("a model was unregistered: its object is gone", { model: name });
    return done;
  }

  function place(
    source: Source,
  ): { readonly kind: "placed"; readonly placed: readonly PlacedRevision[]; readonly why: string } | Obstacle {
    const placed: PlacedRevision[] = [];
    let why = "";
    const runtimes = [...parts.runtimes()];
    for (const [at, revision] of source.revisions.entries()) {
      const selection = selectRuntime(revision, runtimes);
      if (selection.kind === "none") {
        const { reason, message, isPending } = selection;
        return { kind: "runtime", reason, message, why: selection.why, isPending };
      }
      placed.push({ revision, runtime: selection.runtime.name, formatVersion: selection.formatVersion });
      if (at === source.active) ({ why } = selection);
    }
    return { kind: "placed", placed, why };
  }

  /** The record as it is to be, written if need be. */
  async function register(
    source: Source,
    placed: readonly PlacedRevision[],
  ): Promise<{ readonly kind: "ok"; readonly model: Model } | Obstacle> {
    const seen = records.get(source.name);
    const first = buildRecord(source, placed, seen, clock.now());
    if (first.kind === "ok" && first.model === seen) return { kind: "ok", model: seen };
    // What is written is decided by what is there now, not by a copy that may be behind.
    const stored = await getModel(registry, source.name);
    const desired = buildRecord(source, placed, stored?.model, clock.now());
    if (desired.kind === "taken") {
      return { kind: "spec", message: `the name ${source.name} is taken by ${describeOwner(desired.by)}` };
    }
    if (desired.kind === "refused") return { kind: "spec", message: desired.reason };
    if (desired.model === stored?.model) return { kind: "ok", model: desired.model };
    const put = await putModel(registry, desired.model, stored?.revision ?? "absent");
    if (put.kind === "conflict") throw new Error("the record changed meanwhile");
    if (put.kind !== "ok") return { kind: "spec", message: `the registry refuses the model: ${put.kind}` };
    return { kind: "ok", model: desired.model };
  }

  /** How a load failed is read first: what the gateway then says of the copies tells of that load, and on which pod it was. */
  async function ask(model: Model): Promise<Seen> {
    const failure = loads.failure(model.name, model.active);
    return { failure, described: await gateway.describe(model.name) };
  }

  function look(source: Source, model: Model, why: string, { described, failure }: Seen, arriving = false): ModelView {
    const copies = described.kind === "known" ? described.copies : [];
    for (const { revision, state } of copies)
      if (revision === model.active && state === "ready") loads.setLoaded(model.name, revision);
    const failures: LoadSeen[] = failure === undefined ? [] : [failure];
    const runtime = model.revisions.find(({ id }) => id === (model.target ?? model.active))?.runtime;
    return viewModel({
      model,
      copies,
      loads: failures,
      wasLoaded: (revision) =>
        loads.isLoaded(model.name, revision) ||
        (revision === model.active && failure === undefined && hasServed(readSaid(source))),
      why,
      arriving,
      runtimePods: runtime === undefined ? 0 : parts.runtimePods(runtime),
      anyPods: parts.runtimePods("") > 0,
      nowMs: clock.now(),
    });
  }

  async function serve(source: Source): Promise<Outcome> {
    const { name } = source;
    const current = records.get(name);
    const own = current !== undefined && ownerOf(current) === source.owner ? current : undefined;
    const seen = own === undefined ? undefined : await ask(own);
    const served = own === undefined || seen === undefined ? undefined : look(source, own, "", seen);
    if (source.invalid !== undefined) {
      const obstacle: Obstacle =
        source.owner === "ksp" && source.invalid === missingStorage
          ? { kind: "storage", message: source.invalid, location: parts.identity }
          : { kind: "spec", message: source.invalid };
      await writeStatus(source, viewObstacle(obstacle, served, clock.now()));
      return after(parts.restMs());
    }
    const choice = place(source);
    if (choice.kind !== "placed") {
      await writeStatus(source, viewObstacle(choice, served, clock.now()));
      // A change of a runtime brings every model without one back; this is for what was missed.
      return after(parts.restMs());
    }
    const registered = await register(source, choice.placed);
    if (registered.kind !== "ok") {
      await writeStatus(source, viewObstacle(registered, served, clock.now()));
      return after(failedRestMs);
    }
    const { model } = registered;
    parts.onUse(name, runtimesOf(model), claimsOf(model));
    // What the gateway said is of this record, or of one before it.
    const now = seen?.described.kind === "known" && own === model ? seen : await ask(model);
    const { described } = now;
    const isCurrent = described.kind === "known" && described.active === model.active && described.target === model.target;
    // Whoever reads that the object is up to date will ask the model, and must not be answered by what was before.
    const arriving =
      model.target === undefined && isMoving(source) && !(isCurrent && (await gateway.isSettled(name, model.active)));
    const view = look(source, model, choice.why, now, arriving);
    await writeStatus(source, view);
    if (view.activeState !== "Loaded" && view.activeState !== "Standby" && !hasLoadedBefore(source, model))
      loads.want(name, model.active);
    if (described.kind === "unreachable") return after(2_000);
    if (!isCurrent) return after(noticeMs);
    return after(nextLookMs(view, model));
  }

  function hasLoadedBefore(source: Source, model: Model): boolean {
    return (
      loads.isLoaded(model.name, model.active) ||
      (loads.failure(model.name, model.active) === undefined && hasServed(readSaid(source)))
    );
  }

  function nextLookMs(view: ModelView, model: Model): number {
    if (view.transition === "InProgress") return transitMs;
    if (view.activeState === "Loading" || view.activeState === "Pending") {
      // The end of the load is told; this is for loads that others began.
      return Math.max(transitMs, Math.min(parts.restMs(), loads.retryInMs(model.name, model.active) ?? transitMs * 5));
    }
    if (view.activeState === "FailedToLoad")
      return Math.max(transitMs, loads.retryInMs(model.name, model.active) ?? failedRestMs);
    return view.transition === "BlockedByFailedLoad" ? failedRestMs : parts.restMs();
  }

  return {
    async reconcile(name) {
      const sources = owners.flatMap((owner) => parts.source(owner, name) ?? []);
      if (sources.length === 0) return await remove(name);
      const current = records.get(name);
      const holder = current === undefined ? undefined : ownerOf(current);
      const owner = sources.find((source) => source.owner === holder) ?? sources[0];
      if (owner === undefined) return done;
      // The record is of an object that is gone, and another kind takes the name over.
      if (holder !== undefined && holder !== owner.owner && current !== undefined && isOurs(current, parts.namespace)) {
        await remove(name);
        return after(noticeMs);
      }
      for (const other of sources) {
        if (other === owner) continue;
        const message = `the name ${name} is taken by ${describeOwner(owner.owner)}`;
        await writeStatus(other, viewObstacle({ kind: "spec", message }, undefined, clock.now()));
      }
      return await serve(owner);
    },
  };
}

export const missingStorage = "Predictor Storage field missing";

/** Made by a controller for this namespace. */
export function isOurs(model: Model, namespace: string): boolean {
  const owner = ownerOf(model);
  return owners.some((known) => known === owner) && model.tenant === namespace;
}

function hashOf(value: unknown): string {
  return createHash("sha256").update(JSON.stringify(value)).digest("base64");
}

function after(ms: number): Outcome {
  return { kind: "after", ms };
}

function describeOwner(owner: string): string {
  return owners.some((known) => known === owner) ? `the ${kinds[owner as Owner]} of the same name` : owner;
}

function runtimesOf(model: Model): readonly string[] {
  return [
    ...new Set(
      model.revisions.flatMap(({ id, runtime }) =>
        runtime !== undefined && (id === model.active || id === model.target || isShared(model, id)) ? [runtime] : [],
      ),
    ),
  ];
}

function isShared(model: Model, id: string): boolean {
  return model.mirror?.revision === id || model.split?.some(({ revision }) => revision === id) === true;
}

/** Of `pvc://CLAIM/PATH`, and of parameters that name a claim. */
function claimsOf(model: Model): readonly string[] {
  return model.revisions.flatMap(({ storageUri, storageParameters }) => {
    const claim = /^pvc:\/\/([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?:\/|$)/.exec(storageUri)?.[1];
    const named = storageParameters?.["type"] === "pvc" ? storageParameters["name"] : undefined;
    return [claim, named].filter((each): each is string => each !== undefined);
  });
}

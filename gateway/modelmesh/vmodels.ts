// Owns how ModelMesh's models and vmodels are kept as models here. A concrete model is a model with one revision; a vmodel
// is a model whose revisions are called by the ids of concrete models and carry their specs, so it serves whatever becomes
// of those.
// Invariants: a concrete model that vmodels refer to names them; it is told of a reference before that is made, and of its
// end afterwards, so a name too many is possible and is checked, a name too few is not. Nothing is counted: setting the
// same target twice changes nothing.
import type { ErrorCode } from "#core/errors.ts";
import { findRevision, type Model, parseModel } from "#core/model.ts";
import { addRevision, promote, type Refusal, type RevisionSpec, removeRevision, sameSpec } from "#core/revision.ts";
import { type ModelMeshMark, maxReferrers } from "#core/vmodel.ts";
import type { Clock } from "#platform/clock.ts";
import type { Log } from "#platform/log.ts";
import type { Models } from "../admin/models.ts";
import { nameSpec } from "../admin/registration.ts";
import type { ChangeModel, Rewrite, Rewritten } from "../changes.ts";

export interface VModels {
  /** The record itself, read from the registry. */
  read(name: string): Promise<{ readonly kind: "ok"; readonly model: Model | undefined } | Refusal>;
  registerConcrete(id: string, spec: RevisionSpec): Promise<Rewritten | Refusal>;
  unregisterConcrete(id: string): Promise<{ readonly kind: "ok" } | Refusal>;
  set(ask: SetAsk): Promise<{ readonly kind: "ok"; readonly model: Model } | Refusal>;
  delete(name: string, owner: string): Promise<{ readonly kind: "ok" } | Refusal>;
  /** Vmodels that really refer to the concrete model. */
  referrers(model: Model): readonly Model[];
  /** A vmodel moved on: what it left is told, and vanishes when it was made to. */
  onModel(name: string): void;
}

export interface SetAsk {
  readonly name: string;
  readonly owner: string;
  readonly target: string;
  /** Of the target, when it may have to be registered. */
  readonly spec: RevisionSpec | undefined;
  readonly autoDelete: boolean;
  readonly updateOnly: boolean;
  readonly loadNow: boolean;
  readonly force: boolean;
  readonly expectedTarget: string;
}

export interface VModelsParts {
  readonly findModel: (name: string) => Model | undefined;
  readonly models: Pick<Models, "aim" | "change">;
  readonly isHome: (name: string) => boolean;
  readonly clock: Pick<Clock, "now">;
  readonly log: Log;
}

export function isVModel(model: Model): boolean {
  return model.modelmesh?.kind !== "concrete";
}

export function createVModels({ findModel, models, isHome, clock, log }: VModelsParts): VModels {
  const change: ChangeModel = models.change;

  function ownerOf(model: Model): string {
    return model.modelmesh?.kind === "vmodel" ? (model.modelmesh.owner ?? "") : "";
  }

  /** The concrete model names the vmodel, from before the vmodel names it. */
  async function refer({ name, target, spec, autoDelete }: SetAsk): Promise<Rewritten | Refusal> {
    return await change(target, (known) => {
      if (known === undefined) {
        if (spec === undefined)
          return refuse("model-not-found", `model '${target}' is not registered, and no modelInfo is given`);
        return newConcrete(target, spec, { kind: "concrete", autoDelete, referrers: [name] });
      }
      if (known.modelmesh?.kind === "vmodel") return refuse("already-exists", `'${target}' is a vmodel`);
      const current = specOf(known);
      if (spec !== undefined && (current === undefined || !sameSpec(current, spec)))
        return refuse("already-exists", `model '${target}' is registered with other attributes`);
      const mark = known.modelmesh ?? { kind: "concrete", autoDelete: false, referrers: [] };
      if (mark.referrers.includes(name)) return { kind: "keep" };
      // Names of vmodels that moved on without saying so make way.
      const living = mark.referrers.filter((referrer) => refersTo(findModel(referrer), target));
      if (living.length >= maxReferrers)
        return refuse("precondition-failed", `${maxReferrers} vmodels refer to model '${target}' already`);
      return put({ ...known, modelmesh: { ...mark, referrers: [...living, name] } });
    });
  }

  /** Tells a concrete model that the vmodel has left it. */
  async function leave(id: string, vmodel: string): Promise<void> {
    if (findModel(id)?.modelmesh?.kind !== "concrete") return;
    const done = await change(id, (known) => {
      const mark = known?.modelmesh;
      if (known === undefined || mark?.kind !== "concrete" || !mark.referrers.includes(vmodel)) return { kind: "keep" };
      // It may have come back meanwhile.
      if (refersTo(findModel(vmodel), id)) return { kind: "keep" };
      const referrers = mark.referrers.filter((name) => name !== vmodel && refersTo(findModel(name), id));
      if (referrers.length === 0 && mark.autoDelete) return { kind: "delete" };
      return put({ ...known, modelmesh: { ...mark, referrers } });
    });
    if (done.kind === "refused") log.warn("a concrete model could not be released", { model: id, reason: done.reason });
  }

  function check(known: Model | undefined, ask: SetAsk): Refusal | undefined {
    const { name, target, expectedTarget, owner, updateOnly } = ask;
    if (known === undefined) {
      if (updateOnly) return refuse("model-not-found", `vmodel '${name}' does not exist`);
      if (expectedTarget !== "" && expectedTarget !== target)
        return refuse("precondition-failed", `vmodel '${name}' does not exist, so its target is not '${expectedTarget}'`);
      return undefined;
    }
    if (!isVModel(known)) return refuse("already-exists", `'${name}' is a model, so it cannot be a vmodel`);
    if (owner !== "" && ownerOf(known) !== owner) return refuse("already-exists", `vmodel '${name}' has another owner`);
    const current = known.target ?? known.active;
    if (expectedTarget !== "" && expectedTarget !== current)
      return refuse("precondition-failed", `the target of vmodel '${name}' is '${current}', not '${expectedTarget}'`);
    return undefined;
  }

  function point(known: Model | undefined, ask: SetAsk, spec: RevisionSpec): Rewrite {
    const { name, owner, target, force, loadNow } = ask;
    const refusal = check(known, ask);
    if (refusal !== undefined) return refusal;
    if (known === undefined) {
      const mark: ModelMeshMark = owner === "" ? { kind: "vmodel" } : { kind: "vmodel", owner };
      return put({ name, revisions: [{ ...spec, id: target, slot: 0 }], active: target, modelmesh: mark });
    }
    const added = addRevision(known, { ...spec, id: target as RevisionSpec["id"] });
    if (added.kind === "refused") return added;
    const aimed = force ? promote(added.model, target, clock.now()) : models.aim(added.model, target, loadNow);
    if (aimed.kind === "refused") return aimed;
    return aimed.model === known ? { kind: "keep" } : { kind: "put", model: aimed.model };
  }

  return {
    async read(name) {
      const done = await change(name, () => ({ kind: "keep" }));
      return done.kind === "ok" ? { kind: "ok", model: done.model } : done;
    },
    registerConcrete: (id, spec) =>
      change(id, (known) => {
        if (known === undefined) return newConcrete(id, spec, { kind: "concrete", autoDelete: false, referrers: [] });
        const current = known.modelmesh?.kind === "vmodel" ? undefined : specOf(known);
        return current !== undefined && sameSpec(current, spec)
          ? { kind: "keep" }
          : refuse("already-exists", `model '${id}' is registered with other attributes`);
      }),
    async unregisterConcrete(id) {
      const done = await change(id, (known) => {
        // Vmodels have ids of their own.
        if (known === undefined || known.modelmesh?.kind === "vmodel") return { kind: "keep" };
        const referrer = this.referrers(known)[0];
        return referrer === undefined
          ? { kind: "delete" }
          : refuse("precondition-failed", `vmodel '${referrer.name}' refers to model '${id}'`);
      });
      return done.kind === "ok" ? { kind: "ok" } : done;
    },
    async set(ask) {
      const before = await this.read(ask.name);
      if (before.kind === "refused") return before;
      // Nothing is registered for a call that is refused.
      const refusal = check(before.model, ask);
      if (refusal !== undefined) return refusal;
      // A revision that the vmodel has can be gone back to, though its concrete model is gone.
      const kept = before.model === undefined ? undefined : findRevision(before.model, ask.target);
      const referred = await refer({ ...ask, spec: ask.spec ?? kept });
      if (referred.kind === "refused") return referred;
      const spec = ask.spec ?? (referred.model === undefined ? undefined : specOf(referred.model));
      if (spec === undefined) return refuse("model-not-found", `model '${ask.target}' is not registered`);
      if (kept !== undefined && !sameSpec(kept, spec)) {
        // The concrete model was registered anew with other attributes: what is kept of the old one goes first, so that no
        // copy of it is taken for the new one.
        const dropped = await change(ask.name, (known) => {
          const removed = known === undefined ? undefined : removeRevision(known, ask.target);
          if (removed === undefined) return { kind: "keep" };
          return removed.kind === "ok" ? { kind: "put", model: removed.model } : removed;
        });
        if (dropped.kind === "refused") return dropped;
      }
      const done = await change(ask.name, (known) => point(known, ask, spec));
      if (done.kind === "refused") {
        await leave(ask.target, ask.name);
        return done;
      }
      if (done.model === undefined) return refuse("model-not-found", `vmodel '${ask.name}' is gone`);
      await settle(done.model);
      return { kind: "ok", model: done.model };
    },
    async delete(name, owner) {
      const done = await change(name, (known) => {
        if (known === undefined || !isVModel(known)) return { kind: "keep" };
        return owner !== "" && ownerOf(known) !== owner ? { kind: "keep" } : { kind: "delete" };
      });
      if (done.kind === "refused") return done;
      if (done.written) for (const { id } of done.was?.revisions ?? []) await leave(id, name);
      return { kind: "ok" };
    },
    referrers(model) {
      const mark = model.modelmesh;
      if (mark?.kind !== "concrete") return [];
      return mark.referrers.flatMap((name) => {
        const referrer = findModel(name);
        return referrer !== undefined && refersTo(referrer, model.name) ? [referrer] : [];
      });
    },
    onModel(name) {
      const model = findModel(name);
      if (model?.modelmesh?.kind !== "vmodel" || model.retired === undefined || !isHome(name)) return;
      settle(model).catch((error: unknown) => log.warn("concrete models could not be released", { model: name, error }));
    },
  };

  async function settle(model: Model): Promise<void> {
    for (const { revision } of model.retired ?? []) {
      const mark = findModel(revision)?.modelmesh;
      if (mark?.kind === "concrete" && mark.referrers.includes(model.name)) await leave(revision, model.name);
    }
  }
}

/** Active or target: a revision that is only kept for a way back is no reference. */
function refersTo(vmodel: Model | undefined, id: string): boolean {
  return vmodel !== undefined && isVModel(vmodel) && (vmodel.active === id || vmodel.target === id);
}

export function specOf(model: Model): RevisionSpec | undefined {
  const revision = findRevision(model, model.active);
  if (revision === undefined) return undefined;
  const { slot: _, ...spec } = revision;
  return spec;
}

function newConcrete(id: string, spec: RevisionSpec, mark: ModelMeshMark): Rewrite {
  // Named after its content: a model that is registered anew with other attributes never gets an old copy.
  const revision = nameSpec(spec);
  return put({ name: id, revisions: [{ ...spec, id: revision, slot: 0 }], active: revision, modelmesh: mark });
}

function put(value: unknown): Rewrite {
  const parsed = parseModel(value);
  return parsed.kind === "ok" ? { kind: "put", model: parsed.model } : refuse("invalid-request", parsed.reason);
}

function refuse(code: ErrorCode, reason: string): Refusal {
  return { kind: "refused", code, reason };
}

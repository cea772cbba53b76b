// Owns the registry record that a source stands for. Pure: the record there is now and the source in, the record that is to
// be there out. The pointer itself is moved by the gateways, once the target is loaded.
// Invariants: a revision is never changed, only added under another id; what is active stays so until its successor has
// loaded; a source that goes back to an earlier spec goes back to that revision, whether or not it is still warm; what is
// as it should be comes out as the very same value.
import { type Model, parseModel, parseRevision } from "#core/model.ts";
import {
  addRevision,
  type Changed,
  changeSettings,
  type RevisionSpec,
  removeRevision,
  setMirror,
  setSplit,
  setTarget,
} from "#core/revision.ts";
import { revisionIdOf, type Source, type SourceRevision } from "./source.ts";

/** Says on the record whose it is: a record with another mark is somebody else's. */
export const ownerLabel = "warmpath.dev/owner";

export type Desired =
  | { readonly kind: "ok"; readonly model: Model; readonly wanted: string }
  /** The name is taken by a record that came from elsewhere. */
  | { readonly kind: "taken"; readonly by: string }
  | { readonly kind: "refused"; readonly reason: string };

/** A revision with the runtime that was chosen for it. */
export interface PlacedRevision {
  readonly revision: SourceRevision;
  readonly runtime: string;
  readonly formatVersion: string | undefined;
}

/** `placed`: one for each revision of the source, in its order. */
export function buildRecord(
  source: Source,
  placed: readonly PlacedRevision[],
  current: Model | undefined,
  nowMs: number,
): Desired {
  if (current !== undefined && ownerOf(current) !== source.owner)
    return { kind: "taken", by: ownerOf(current) ?? "the management API" };
  const specs: RevisionSpec[] = [];
  for (const each of placed) {
    const spec = buildSpec(source, each);
    if (spec.kind === "refused") return spec;
    specs.push(spec.spec);
  }
  const active = specs[source.active];
  if (active === undefined) return { kind: "refused", reason: "it has no revision" };
  const started = current === undefined ? startModel(source, specs, active) : { kind: "ok" as const, model: current };
  if (started.kind === "refused") return started;
  const idOf = (label: string): string => specs[placed.findIndex(({ revision }) => revision.label === label)]?.id ?? label;
  const steps: readonly ((model: Model) => Changed)[] = [
    ...specs.map((spec) => (model: Model) => addRevision(model, spec)),
    // Even when no copy of the active one is left: a target that cannot be loaded must never take its place.
    (model) => setTarget(model, active.id, nowMs, { loadNow: true }),
    (model) => changed(model, { split: sharesOf(model, source, idOf) }, (next) => setSplit(next, sharesOf(next, source, idOf))),
    (model) => changed(model, { mirror: mirrorOf(model, source, idOf) }, (next) => setMirror(next, mirrorOf(next, source, idOf))),
    (model) => changed(model, settingsOf(source), (next) => changeSettings(next, settingsOf(source))),
    (model) => dropUnwanted(model, new Set(specs.map(({ id }) => id))),
  ];
  let { model } = started;
  for (const step of steps) {
    const next = step(model);
    if (next.kind === "refused") return { kind: "refused", reason: next.reason };
    model = next.model;
  }
  return { kind: "ok", model, wanted: active.id };
}

export function ownerOf(model: Model): string | undefined {
  return model.labels?.[ownerLabel];
}

function startModel(
  source: Source,
  specs: readonly RevisionSpec[],
  active: RevisionSpec,
): { readonly kind: "ok"; readonly model: Model } | { readonly kind: "refused"; readonly reason: string } {
  // The active one has slot 0, which Envoy serves at the least cost.
  const revisions: unknown[] = [];
  for (const spec of [active, ...specs.filter(({ id }) => id !== active.id)]) revisions.push({ ...spec, slot: revisions.length });
  return parseModel({ name: source.name, revisions, active: active.id, ...settingsOf(source) });
}

function buildSpec(
  source: Source,
  { revision, runtime, formatVersion }: PlacedRevision,
): { readonly kind: "ok"; readonly spec: RevisionSpec } | { readonly kind: "refused"; readonly reason: string } {
  const { format, storageUri, storageKey, storageParameters, schemaPath, sizeHintBytes, requiredLabels, preferredLabels } =
    revision;
  const id = revisionIdOf(source, revision, runtime);
  const parsed = parseRevision({
    id,
    slot: 0,
    format,
    formatVersion,
    runtime,
    storageUri,
    storageKey,
    storageParameters,
    schemaPath,
    sizeHintBytes,
    requiredLabels,
    preferredLabels,
  });
  if (parsed.kind === "refused") return parsed;
  const { slot: _, ...spec } = parsed.revision;
  return { kind: "ok", spec };
}

/** What was wanted once and never came to serve; what did serve stays for a while, and the gateways take it away. */
function dropUnwanted(model: Model, wanted: ReadonlySet<string>): Changed {
  let left = model;
  for (const { id } of model.revisions) {
    const isKept =
      wanted.has(id) || id === model.active || id === model.target || model.retired?.some(({ revision }) => revision === id);
    if (isKept === true) continue;
    const next = removeRevision(left, id);
    // Still split or mirrored to, until the pointer has moved.
    if (next.kind === "ok") left = next.model;
  }
  return { kind: "ok", model: left };
}

function settingsOf({ owner, namespace, options, labels }: Source): Readonly<Record<string, unknown>> {
  return {
    minCopies: options.minCopies,
    maxCopies: options.maxCopies,
    priority: options.priority,
    pinned: options.pinned,
    tenant: namespace,
    labels: { ...labels, [ownerLabel]: owner },
  };
}

type Shares = readonly { readonly revision: string; readonly percent: number }[];

/** While the wanted revision loads, another one is active: it cannot have a share as well. */
function sharesOf(model: Model, { options }: Source, idOf: (label: string) => string): Shares {
  return options.split
    .map(({ revision, percent }) => ({ revision: idOf(revision), percent }))
    .filter(({ revision }) => revision !== model.active);
}

function mirrorOf(model: Model, { options }: Source, idOf: (label: string) => string): Shares[number] | undefined {
  const { mirror } = options;
  if (mirror === undefined) return undefined;
  const share = { revision: idOf(mirror.revision), percent: mirror.percent };
  return share.revision === model.active ? undefined : share;
}

/** Only when it makes a difference, so that what is as it should be is not written. */
function changed(model: Model, wanted: Readonly<Record<string, unknown>>, change: (model: Model) => Changed): Changed {
  const differs = Object.entries(wanted).some(([key, value]) => textOf(Reflect.get(model, key)) !== textOf(value));
  return differs ? change(model) : { kind: "ok", model };
}

function textOf(value: unknown): string {
  return value === undefined || (Array.isArray(value) && value.length === 0) ? "" : JSON.stringify(value);
}

// Owns the words model, revision and slot, and the naming rules.
// Invariants: a value of these types came through a parser here (or was built from such values), is deeply frozen, and
// a Model's active revision exists, its target (if any) exists and is another one, ids and slots are unique.
// Names need no escaping in a URL path, a header, JSON or a file name. `~` stays free: it joins a name and a slot.

import {
  type Found,
  isRecord,
  isWhole,
  maxNameLength,
  own,
  parseAllSettings,
  parseSchemaPath,
  parseStorageUri,
  parseWord,
  parseWords,
  type Refused,
  refused,
  type Settings,
} from "./fields.ts";
import { type PointerMemory, parsePointerMemory } from "./pointer.ts";
import { type ModelMeshMark, parseModelMeshMark } from "./vmodel.ts";

declare const brand: unique symbol;

/** What clients call: 1 to 253 of A-Z a-z 0-9 . _ - and no dot at the beginning. */
export type ModelName = string & { readonly [brand]: "ModelName" };

/** Names one revision within its model; the same alphabet as a model's name. */
export type RevisionId = string & { readonly [brand]: "RevisionId" };

/** One immutable spec of a model. */
export interface Revision {
  readonly id: RevisionId;
  /** 0 to 15, free among the model's live revisions. */
  readonly slot: number;
  readonly format: string;
  /** Of the format, such as "1"; any when absent. */
  readonly formatVersion?: string;
  /** Only pods of this runtime may hold it; any that serves the format when absent. */
  readonly runtime?: string;
  /** Where the artefact lies: `scheme:rest`, at most 2,048 characters. */
  readonly storageUri: string;
  /** Which entry of the pod's storage settings says how to get there; chosen by the scheme when absent. */
  readonly storageKey?: string;
  /** Laid over that entry, such as `bucket`; never credentials. */
  readonly storageParameters?: Settings;
  /** A file of input and output tensors beside the artefact, relative to it. */
  readonly schemaPath?: string;
  /** Labels that a pod must have, and those that make it the better one. */
  readonly requiredLabels?: Settings;
  readonly preferredLabels?: Settings;
  readonly sizeHintBytes: number | undefined;
}

/** From what is served first when loads queue to what is served last. */
export const priorities = ["high", "normal", "low"] as const;

export type Priority = (typeof priorities)[number];

/** A share of the requests that goes to another revision than the active one. */
export interface Share {
  readonly revision: RevisionId;
  /** 1 to 100. */
  readonly percent: number;
}

export interface Model extends PointerMemory<RevisionId> {
  readonly name: ModelName;
  readonly revisions: readonly Revision[];
  /** What requests go to. */
  readonly active: RevisionId;
  /** What must load before the pointer moves to it. */
  readonly target: RevisionId | undefined;
  /** Shares that other revisions take from the active one; 100 percent in all at most. */
  readonly split?: readonly Share[];
  /** A revision that gets copies of so many requests; its answers are thrown away. */
  readonly mirror?: Share;
  /** Copies kept whatever the demand; 0 when absent: none is kept without use. */
  readonly minCopies?: number;
  /** No more copies than so many, whatever the demand. */
  readonly maxCopies?: number;
  /** Its copies are never evicted for others. */
  readonly pinned?: boolean;
  /** Of its loads among others; normal when absent. */
  readonly priority?: Priority;
  /** Whose it is, such as a namespace: what quotas and policies go by. */
  readonly tenant?: string;
  /** What policies and lists select by. */
  readonly labels?: Settings;
  /** What the ModelMesh service keeps of it. */
  readonly modelmesh?: ModelMeshMark;
}

export const maxFormatLength = 63;
export const maxRevisions = 16;
export const maxCopiesLimit = 1_000;
/** The highest slot. */
export const maxSlot = maxRevisions - 1;
/** A petabyte: more is a mistake, and sums of sizes stay exact. */
export const maxSizeHintBytes = 2 ** 50;

export function parseModelName(value: unknown): { readonly kind: "ok"; readonly name: ModelName } | Refused {
  const word = parseWord("a model name", value, maxNameLength);
  return word.kind === "ok" ? { kind: "ok", name: word.text as ModelName } : word;
}

export function parseRevisionId(value: unknown): { readonly kind: "ok"; readonly id: RevisionId } | Refused {
  const word = parseWord("a revision id", value, maxNameLength);
  return word.kind === "ok" ? { kind: "ok", id: word.text as RevisionId } : word;
}

/** Reads one revision from a registry record or a management request; unknown fields are left out. */
export function parseRevision(value: unknown): { readonly kind: "ok"; readonly revision: Revision } | Refused {
  if (!isRecord(value)) return refused("a revision must be an object");
  const id = parseRevisionId(own(value, "id"));
  if (id.kind === "refused") return id;
  const slot = own(value, "slot");
  if (!isWhole(slot, 0, maxSlot)) return refused(`slot must be a whole number from 0 to ${maxSlot}`);
  const format = parseWord("a format", own(value, "format"), maxFormatLength);
  if (format.kind === "refused") return format;
  const storageUri = parseStorageUri(own(value, "storageUri"));
  if (storageUri.kind === "refused") return storageUri;
  const words = parseWords(value, ["formatVersion", "runtime", "storageKey"]);
  if (words.kind === "refused") return words;
  const settings = parseAllSettings(value, ["storageParameters", "requiredLabels", "preferredLabels"]);
  if (settings.kind === "refused") return settings;
  const schemaPath = parseSchemaPath(own(value, "schemaPath"));
  if (schemaPath.kind === "refused") return schemaPath;
  const sizeHintBytes = own(value, "sizeHintBytes");
  if (sizeHintBytes !== undefined && !isWhole(sizeHintBytes, 1, maxSizeHintBytes)) {
    return refused(`sizeHintBytes must be a whole number from 1 to ${maxSizeHintBytes}, or left out`);
  }
  return {
    kind: "ok",
    revision: Object.freeze({
      id: id.id,
      slot,
      format: format.text,
      storageUri: storageUri.text,
      sizeHintBytes,
      ...words.found,
      ...settings.found,
      ...schemaPath.found,
    }),
  };
}

/** Reads a model from a registry record or a management request; unknown fields are left out. */
export function parseModel(value: unknown): { readonly kind: "ok"; readonly model: Model } | Refused {
  if (!isRecord(value)) return refused("a model must be an object");
  const name = parseModelName(own(value, "name"));
  if (name.kind === "refused") return name;
  const list: unknown = own(value, "revisions");
  if (!Array.isArray(list) || list.length === 0 || list.length > maxRevisions) {
    return refused(`revisions must be a list of 1 to ${maxRevisions}`);
  }
  const revisions: Revision[] = [];
  for (let at = 0; at < list.length; at++) {
    const parsed = parseRevision(list[at]);
    if (parsed.kind === "refused") return refused(`revision ${at}: ${parsed.reason}`);
    if (revisions.some((other) => other.id === parsed.revision.id))
      return refused(`revision ${at}: its id is taken by another one`);
    if (revisions.some((other) => other.slot === parsed.revision.slot))
      return refused(`revision ${at}: its slot is taken by another one`);
    revisions.push(parsed.revision);
  }
  const active = own(value, "active");
  const target = own(value, "target");
  const activeId = revisions.find((revision) => revision.id === active)?.id;
  if (activeId === undefined) return refused("active must be the id of one of the revisions");
  const targetId = revisions.find((revision) => revision.id === target)?.id;
  if (target !== undefined && targetId === undefined)
    return refused("target must be the id of one of the revisions, or left out");
  if (targetId === activeId) return refused("target must be another revision than active");
  const options = parseModelOptions(value, revisions, activeId);
  if (options.kind === "refused") return options;
  const spare = revisions.map(({ id }) => id).filter((id) => id !== activeId && id !== targetId);
  const memory = parsePointerMemory(value, spare, targetId);
  if (memory.kind === "refused") return memory;
  const mark = parseModelMeshMark(own(value, "modelmesh"));
  if (mark.kind === "refused") return mark;
  return {
    kind: "ok",
    model: Object.freeze({
      name: name.name,
      revisions: Object.freeze(revisions),
      active: activeId,
      target: targetId,
      ...options.found,
      ...memory.found,
      ...mark.found,
    }),
  };
}

type ModelOptions = Pick<Model, "split" | "mirror" | "minCopies" | "maxCopies" | "pinned" | "priority" | "tenant" | "labels">;

function parseModelOptions(
  value: Readonly<Record<string, unknown>>,
  revisions: readonly Revision[],
  active: RevisionId,
): Found<ModelOptions> {
  const split = parseSplit(own(value, "split"), revisions, active);
  if (split.kind === "refused") return split;
  const mirror = parseMirror(own(value, "mirror"), revisions, active);
  if (mirror.kind === "refused") return mirror;
  const minCopies = own(value, "minCopies");
  if (minCopies !== undefined && !isWhole(minCopies, 0, maxCopiesLimit))
    return refused(`minCopies must be a whole number from 0 to ${maxCopiesLimit}, or left out`);
  const maxCopies = own(value, "maxCopies");
  if (maxCopies !== undefined && !isWhole(maxCopies, 1, maxCopiesLimit))
    return refused(`maxCopies must be a whole number from 1 to ${maxCopiesLimit}, or left out`);
  if (minCopies !== undefined && maxCopies !== undefined && minCopies > maxCopies)
    return refused("minCopies must not be more than maxCopies");
  const pinned = own(value, "pinned");
  if (pinned !== undefined && typeof pinned !== "boolean") return refused("pinned must be true or false, or left out");
  const given = own(value, "priority");
  const priority = priorities.find((known) => known === given);
  if (given !== undefined && priority === undefined)
    return refused(`priority must be one of ${priorities.join(", ")}, or left out`);
  const words = parseWords(value, ["tenant"]);
  if (words.kind === "refused") return words;
  const settings = parseAllSettings(value, ["labels"]);
  if (settings.kind === "refused") return settings;
  return {
    kind: "ok",
    found: {
      ...split.found,
      ...mirror.found,
      ...(minCopies === undefined ? {} : { minCopies }),
      ...(maxCopies === undefined ? {} : { maxCopies }),
      ...(pinned === undefined ? {} : { pinned }),
      ...(priority === undefined ? {} : { priority }),
      ...words.found,
      ...settings.found,
    },
  };
}

function parseSplit(value: unknown, revisions: readonly Revision[], active: RevisionId): Found<Pick<Model, "split">> {
  if (value === undefined) return { kind: "ok", found: {} };
  if (!Array.isArray(value) || value.length >= maxRevisions) return refused("split must be a list of shares, or left out");
  const split: Share[] = [];
  for (const each of value) {
    const share = parseShare(each, revisions, active);
    if (share.kind === "refused") return refused(`split: ${share.reason}`);
    if (split.some(({ revision }) => revision === share.share.revision)) return refused("split must name each revision once");
    split.push(share.share);
  }
  if (split.reduce((sum, { percent }) => sum + percent, 0) > 100)
    return refused("split must not be more than 100 percent in all");
  return { kind: "ok", found: split.length === 0 ? {} : { split: Object.freeze(split) } };
}

function parseMirror(value: unknown, revisions: readonly Revision[], active: RevisionId): Found<Pick<Model, "mirror">> {
  if (value === undefined) return { kind: "ok", found: {} };
  const share = parseShare(value, revisions, active);
  return share.kind === "refused" ? refused(`mirror: ${share.reason}`) : { kind: "ok", found: { mirror: share.share } };
}

function parseShare(
  value: unknown,
  revisions: readonly Revision[],
  active: RevisionId,
): { readonly kind: "ok"; readonly share: Share } | Refused {
  if (!isRecord(value)) return refused("a share must be an object");
  const named = own(value, "revision");
  const revision = revisions.find(({ id }) => id === named)?.id;
  if (revision === undefined || revision === active) return refused("a share must name another one of the revisions than active");
  const percent = own(value, "percent");
  if (!isWhole(percent, 1, 100)) return refused("percent must be a whole number from 1 to 100");
  return { kind: "ok", share: Object.freeze({ revision, percent }) };
}

export function findRevision(model: Model, id: string): Revision | undefined {
  return model.revisions.find((revision) => revision.id === id);
}

export function activeRevision(model: Model): Revision {
  const revision = findRevision(model, model.active);
  if (revision === undefined) throw new RangeError("a model without its active revision: it did not come from parseModel");
  return revision;
}

/** What a revision in this slot is called on a model server: `name` in slot 0, else `name~slot`. At most 256 characters: one more than a file name may have. */
export function serverName(name: ModelName, slot: number): string {
  return slot === 0 ? name : `${name}~${slot}`;
}

/** Takes only what serverName gives: `name~0` and `name~01` are refused. */
export function parseServerName(
  text: unknown,
): { readonly kind: "ok"; readonly name: ModelName; readonly slot: number } | Refused {
  if (typeof text !== "string") return refused("a server name must be text");
  const at = text.indexOf("~");
  const name = parseModelName(at === -1 ? text : text.slice(0, at));
  if (name.kind === "refused") return name;
  if (at === -1) return { kind: "ok", name: name.name, slot: 0 };
  const slot = /^[1-9]\d?$/.test(text.slice(at + 1)) ? Number(text.slice(at + 1)) : 0;
  return isWhole(slot, 1, maxSlot)
    ? { kind: "ok", name: name.name, slot }
    : refused(`what follows ~ must be a slot from 1 to ${maxSlot}`);
}

/**
 * The lowest slot that no revision of the model has; undefined when all are taken. The lowest, so that few slots are in
 * use and Envoy needs few rules; a pod may still hold a removed revision in it, so copies are told apart by revision.
 */
export function freeSlot(model: { readonly revisions: readonly { readonly slot: number }[] }): number | undefined {
  for (let slot = 0; slot <= maxSlot; slot++) {
    if (!model.revisions.some((revision) => revision.slot === slot)) return slot;
  }
  return undefined;
}

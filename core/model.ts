// Owns the words model, revision and slot, and the naming rules.
// Invariants: a value of these types came through a parser here (or was built from such values), is deeply frozen, and
// a Model's active revision exists, its target (if any) exists and is another one, ids and slots are unique.
// Names need no escaping in a URL path, a header, JSON or a file name. `~` stays free: it joins a name and a slot.

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
  /** Where the artefact lies: `scheme:rest`, at most 2,048 characters. */
  readonly storageUri: string;
  readonly sizeHintBytes: number | undefined;
}

export interface Model {
  readonly name: ModelName;
  readonly revisions: readonly Revision[];
  /** What requests go to. */
  readonly active: RevisionId;
  /** What must load before the pointer moves to it. */
  readonly target: RevisionId | undefined;
}

export interface Refused {
  readonly kind: "refused";
  /** For people; never repeats more than one character of the input. */
  readonly reason: string;
}

export const maxNameLength = 253;
export const maxStorageUriLength = 2_048;
export const maxFormatLength = 63;
export const maxRevisions = 16;
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
  const sizeHintBytes = own(value, "sizeHintBytes");
  if (sizeHintBytes !== undefined && !isWhole(sizeHintBytes, 1, maxSizeHintBytes)) {
    return refused(`sizeHintBytes must be a whole number from 1 to ${maxSizeHintBytes}, or left out`);
  }
  return {
    kind: "ok",
    revision: Object.freeze({ id: id.id, slot, format: format.text, storageUri: storageUri.text, sizeHintBytes }),
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
  return {
    kind: "ok",
    model: Object.freeze({ name: name.name, revisions: Object.freeze(revisions), active: activeId, target: targetId }),
  };
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
export function freeSlot(model: Pick<Model, "revisions">): number | undefined {
  for (let slot = 0; slot <= maxSlot; slot++) {
    if (!model.revisions.some((revision) => revision.slot === slot)) return slot;
  }
  return undefined;
}

const outsideAlphabet = /[^A-Za-z0-9._-]/u;

type Text = { readonly kind: "ok"; readonly text: string } | Refused;

function parseWord(what: string, value: unknown, maxLength: number): Text {
  if (typeof value !== "string") return refused(`${what} must be text`);
  if (value === "") return refused(`${what} must not be empty`);
  if (value.length > maxLength) return refused(`${what} must have at most ${maxLength} characters, not ${value.length}`);
  const strange = outsideAlphabet.exec(value);
  if (strange !== null) {
    return refused(`${what} must not contain ${showCharacter(strange[0])}: only A-Z a-z 0-9 . _ - are allowed`);
  }
  // Covers `.` and `..`, which URL and file paths fold away, and hidden files.
  if (value.startsWith(".")) return refused(`${what} must not begin with a dot`);
  return { kind: "ok", text: value };
}

// A scheme of one letter would be a Windows drive.
const uriShape = /^[a-z][a-z0-9+.-]{1,31}:./su;
const controlCharacter = /\p{Cc}/u;

function parseStorageUri(value: unknown): Text {
  if (typeof value !== "string") return refused("storageUri must be text");
  if (value.length > maxStorageUriLength) {
    return refused(`storageUri must have at most ${maxStorageUriLength} characters, not ${value.length}`);
  }
  const control = controlCharacter.exec(value);
  if (control !== null) return refused(`storageUri must not contain ${showCharacter(control[0])}`);
  if (!value.isWellFormed()) return refused("storageUri must be well-formed Unicode");
  return uriShape.test(value)
    ? { kind: "ok", text: value }
    : refused("storageUri must begin with its scheme, as in s3://bucket/path");
}

/** Printable ASCII as it is, everything else by its code point: reasons end up in headers and terminals. */
function showCharacter(character: string): string {
  if (character === " ") return "a space";
  if (/^[!-~]$/.test(character)) return `'${character}'`;
  return `U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")}`;
}

function refused(reason: string): Refused {
  return { kind: "refused", reason };
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Own properties only, so that nothing comes from a prototype. */
function own(record: Readonly<Record<string, unknown>>, key: string): unknown {
  return Object.hasOwn(record, key) ? record[key] : undefined;
}

function isWhole(value: unknown, least: number, most: number): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= least && value <= most;
}

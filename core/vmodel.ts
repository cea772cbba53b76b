// Owns what the ModelMesh service needs to know of a model beyond the model itself: whether it was made as a vmodel and by
// whom, or as a concrete model, and which vmodels refer to it. Other models carry no mark.
import { type Found, isRecord, maxNameLength, own, parseWord, refused } from "./fields.ts";

export type ModelMeshMark =
  | { readonly kind: "vmodel"; readonly owner?: string }
  | {
      readonly kind: "concrete";
      /** It vanishes when no vmodel refers to it any more. */
      readonly autoDelete: boolean;
      /** Vmodels that may refer to it: each is asked before it is believed, so a name too many does no harm. */
      readonly referrers: readonly string[];
    };

export const maxReferrers = 64;

export function parseModelMeshMark(value: unknown): Found<{ readonly modelmesh?: ModelMeshMark }> {
  if (value === undefined) return { kind: "ok", found: {} };
  if (!isRecord(value)) return refused("modelmesh must be an object, or left out");
  const kind = own(value, "kind");
  if (kind === "vmodel") {
    const given = own(value, "owner");
    if (given === undefined) return { kind: "ok", found: { modelmesh: Object.freeze({ kind }) } };
    const owner = parseWord("modelmesh: owner", given, maxNameLength);
    return owner.kind === "ok" ? { kind: "ok", found: { modelmesh: Object.freeze({ kind, owner: owner.text }) } } : owner;
  }
  if (kind !== "concrete") return refused("modelmesh: kind must be vmodel or concrete");
  const autoDelete = own(value, "autoDelete");
  if (typeof autoDelete !== "boolean") return refused("modelmesh: autoDelete must be true or false");
  const list = own(value, "referrers");
  if (!Array.isArray(list) || list.length > maxReferrers)
    return refused(`modelmesh: referrers must be a list of at most ${maxReferrers} names`);
  const referrers: string[] = [];
  for (const each of list) {
    const name = parseWord("modelmesh: a referrer", each, maxNameLength);
    if (name.kind === "refused") return name;
    referrers.push(name.text);
  }
  return { kind: "ok", found: { modelmesh: Object.freeze({ kind, autoDelete, referrers: Object.freeze(referrers) }) } };
}

// Owns what a registration of a model that is registered already means: whether it says anything new, and what it makes of
// the record. Pure.
import { findRevision, type Model } from "#core/model.ts";
import { addRevision, type Changed, changeSettings, sameSpec } from "#core/revision.ts";

/** Another artefact becomes the target; the rest is as the new registration says. The whole record replaces the whole. */
export function replace(
  known: Model,
  wanted: Model,
  isWhole: boolean,
  aim: (model: Model, id: string, loadNow: boolean) => Changed,
): Changed {
  if (isWhole) return { kind: "ok", model: known.modelmesh === undefined ? wanted : { ...wanted, modelmesh: known.modelmesh } };
  const [revision] = wanted.revisions;
  if (revision === undefined) return { kind: "refused", code: "internal", reason: "a registration without a revision" };
  const added = addRevision(known, revision);
  if (added.kind === "refused") return added;
  const { minCopies, maxCopies, pinned, priority, tenant, labels } = wanted;
  const changed = changeSettings(added.model, { minCopies, maxCopies, pinned, priority, tenant, labels });
  return changed.kind === "refused" ? changed : aim(changed.model, revision.id, false);
}

/**
 * The registration is what the model is, or is on its way to be. What it does not say of traffic is as it may be: a split
 * set later does not make a repeated registration another one.
 */
export function sameRegistration(known: Model, wanted: Model): boolean {
  if (settingsText(known) !== settingsText(wanted)) return false;
  const { split = known.split, mirror = known.mirror } = wanted;
  if (JSON.stringify([split, mirror]) !== JSON.stringify([known.split, known.mirror])) return false;
  const [only, ...others] = wanted.revisions;
  if (only === undefined || others.length > 0) {
    const pointers = ({ revisions, active, target }: Model): string => JSON.stringify([revisions, active, target]);
    return pointers(known) === pointers(wanted);
  }
  const current = findRevision(known, known.target ?? known.active);
  return current !== undefined && current.id === only.id && sameSpec(current, only);
}

function settingsText({ minCopies, maxCopies, pinned, priority, tenant, labels }: Model): string {
  const ordered = labels === undefined ? undefined : Object.entries(labels).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([minCopies, maxCopies, pinned, priority, tenant, ordered]);
}

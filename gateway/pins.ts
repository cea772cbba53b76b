// Owns that pods know which of their copies are never to leave for others: those of models that are pinned or have a least
// number of copies. A load says so itself; what is told here is what changed since, and what an adapter cannot know that
// found its copies on the model server when it started.
// Invariants: only the model's home gateway tells; each pod is told of a copy once for each time that the copy comes to be
// there, so its answer, which says that the copy is ready, is not answered again.
import { findRevision, type Model, type Revision } from "#core/model.ts";
import { type Copy, type CopyChange, copyKey, type Fleet } from "./fleet.ts";
import type { LoadAsk } from "./links.ts";

export interface Pins {
  onModel(model: string): void;
  onCopies(podId: string, changes: readonly CopyChange[]): void;
  /** It may have been linked anew: what it was told before counts no more. */
  onPod(podId: string): void;
  /** Gateways came or went. */
  onMembers(): void;
}

export interface PinsParts {
  readonly fleet: Pick<Fleet, "holders">;
  readonly findModel: (name: string) => Model | undefined;
  readonly isHome: (model: string) => boolean;
  readonly sendLoad: (podId: string, model: string, revision: Revision, ask: LoadAsk) => void;
}

const longAgoMs = 1e12;

export function createPins({ fleet, findModel, isHome, sendLoad }: PinsParts): Pins {
  const pinned = new Set<string>();
  /** Pod -> copies that it was told to keep. */
  const told = new Map<string, Set<string>>();

  function tell(podId: string, name: string, copy: Pick<Copy, "revision">, isToStay: boolean): void {
    const model = findModel(name);
    const revision = model === undefined ? undefined : findRevision(model, copy.revision);
    if (revision === undefined) return;
    const key = copyKey({ model: name, revision: revision.id });
    if (isToStay) told.set(podId, (told.get(podId) ?? new Set()).add(key));
    // As of a use long ago: it moves nothing in the LRU. One that has just left is not loaded for it.
    sendLoad(podId, name, revision, { loadClass: "proactive", waitMs: 1, idleMs: longAgoMs, pinned: isToStay });
  }

  function keep(podId: string, copy: CopyChange): void {
    if (told.get(podId)?.has(copyKey(copy)) !== true) tell(podId, copy.model, copy, true);
  }

  return {
    onModel(name) {
      const model = findModel(name);
      const now = model !== undefined && isPinned(model);
      if (!(now ? !pinned.has(name) : pinned.delete(name))) return;
      if (now) pinned.add(name);
      if (!isHome(name)) return;
      for (const { podId, copy } of Array.from(fleet.holders(name))) if (copy.state === "ready") tell(podId, name, copy, now);
    },
    onCopies(podId, changes) {
      if (pinned.size === 0 && told.size === 0) return;
      for (const change of changes) {
        const { state } = change;
        if (state === "leaving" || state === "gone" || state === "failed") told.get(podId)?.delete(copyKey(change));
        else if (state === "ready" && pinned.has(change.model) && isHome(change.model)) keep(podId, change);
      }
    },
    onPod: (podId) => void told.delete(podId),
    onMembers() {
      for (const name of pinned) {
        if (!isHome(name)) continue;
        for (const { podId, copy } of Array.from(fleet.holders(name))) if (copy.state === "ready") keep(podId, copy);
      }
    },
  };
}

/** Copies that are kept whatever the demand are not evicted for others. */
export function isPinned(model: Model): boolean {
  return model.pinned === true || (model.minCopies ?? 0) > 0;
}

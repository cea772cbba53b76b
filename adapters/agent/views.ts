// Owns how an ask looks to the others: as a copy's name, as what its size is predicted from, as a queued copy. Pure.
import type { Ask } from "./asks.ts";
import type { CopyName, CopyView } from "./copies.ts";
import type { NewCopy } from "./ledger.ts";
import type { SizeFacts } from "./sizes.ts";

export function nameOf(ask: Ask): CopyName {
  return { model: ask.model, revision: ask.revision.id, slot: ask.revision.slot };
}

export function factsOf(ask: Ask): SizeFacts {
  const { key, revision, artefactBytes, predictedBytes } = ask;
  return { key, format: revision.format, sizeHintBytes: revision.sizeHintBytes, artefactBytes, predictedBytes };
}

export function newCopyOf(ask: Ask): NewCopy {
  const { key, serverName, lastUsedMs, loadClass, pinned, tenant } = ask;
  return {
    ...nameOf(ask),
    key,
    serverName,
    lastUsedMs,
    pinned,
    tenant,
    facts: factsOf(ask),
    userWaits: loadClass === "waiting-user",
  };
}

export function queuedView(ask: Ask): CopyView {
  return { ...nameOf(ask), state: "queued", sizeBytes: 0, lastUsedMs: ask.lastUsedMs };
}

export function goneView(name: CopyName): CopyView {
  return { ...name, state: "gone", sizeBytes: 0, lastUsedMs: 0 };
}

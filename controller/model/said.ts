// Owns what an object's status says of its model, read back. Pure.
import { list, record, text } from "../engine/objects.ts";
import type { Source } from "./source.ts";

export interface Said {
  readonly activeState: string | undefined;
  readonly transition: string | undefined;
  /** How its runtime was chosen. */
  readonly selection: string | undefined;
  /** Of the spec that it was said of. */
  readonly generation: unknown;
}

export function readSaid({ owner, status }: Pick<Source, "owner" | "status">): Said {
  const modelStatus = owner === "isvc" ? record(status["modelStatus"]) : status;
  const states = owner === "isvc" ? record(modelStatus["states"]) : status;
  const chosen = list(status["conditions"])
    .map(record)
    .find(({ type, status: is }) => type === "RuntimeSelected" && is === "True");
  return {
    activeState: text(states[owner === "model" ? "activeState" : "activeModelState"]),
    transition: text(modelStatus[owner === "model" ? "transition" : "transitionStatus"]),
    selection: text(chosen?.["message"]),
    generation: status["observedGeneration"],
  };
}

/** It says that the model was loaded once: after a restart that is all there is to know it by. */
export function hasServed({ activeState }: Said): boolean {
  return activeState === "Loaded" || activeState === "Standby";
}

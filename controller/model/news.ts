// Owns what is worth an event in what is said of a model: what its status has not said before. Pure.
// Invariant: copies that come and go by use (Loaded, Standby) are no news.
import { list, record, text } from "../engine/objects.ts";
import type { Source } from "./source.ts";
import type { ModelView } from "./view.ts";

export interface News {
  readonly type: "Normal" | "Warning";
  readonly reason: string;
  readonly note: string;
}

/** `source.status` is what was said before. */
export function findNews(source: Pick<Source, "owner" | "status">, view: ModelView): readonly News[] {
  const before = readSaid(source);
  const news: News[] = [];
  const { selection, failure, active, activeState, transition } = view;
  if (selection.ok && selection.message !== "" && selection.message !== before.selection)
    news.push({ type: "Normal", reason: "RuntimeSelected", note: selection.message });
  const served = before.activeState === "Loaded" || before.activeState === "Standby";
  const arrived = before.transition !== undefined && before.transition !== "UpToDate" && transition === "UpToDate";
  if (activeState === "Loaded" && (!served || arrived))
    news.push({ type: "Normal", reason: "Loaded", note: `revision ${active ?? ""} is loaded` });
  // That no pod is up yet is no failure.
  if (failure === undefined || failure.reason === "RuntimeUnhealthy") return news;
  const { reason, message } = failure;
  const event =
    transition === "BlockedByFailedLoad"
      ? { reason: "BlockedByFailedLoad", note: `${reason}: ${message}; revision ${active ?? ""} serves on` }
      : { reason, note: message };
  return [...news, { type: "Warning", ...event }];
}

interface Said {
  readonly activeState: string | undefined;
  readonly transition: string | undefined;
  readonly selection: string | undefined;
}

function readSaid({ owner, status }: Pick<Source, "owner" | "status">): Said {
  const modelStatus = owner === "isvc" ? record(status["modelStatus"]) : status;
  const states = owner === "isvc" ? record(modelStatus["states"]) : status;
  const chosen = list(status["conditions"])
    .map(record)
    .find(({ type, status: is }) => type === "RuntimeSelected" && is === "True");
  return {
    activeState: text(states[owner === "model" ? "activeState" : "activeModelState"]),
    transition: text(modelStatus[owner === "model" ? "transition" : "transitionStatus"]),
    selection: text(chosen?.["message"]),
  };
}

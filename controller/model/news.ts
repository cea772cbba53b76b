// Owns what is worth an event in what is said of a model: what its status has not said before. Pure.
// Invariant: copies that come and go by use (Loaded, Standby) are no news.
import { readSaid } from "./said.ts";
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

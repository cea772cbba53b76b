// Owns what is known of one revision whose copies are wanted, and what those who want them want together.
import { type LoadClass, loadClasses } from "#core/loadqueue.ts";
import type { Model } from "#core/model.ts";
import type { Failure } from "./failure.ts";

interface Wanted {
  readonly count: number;
  readonly loadClass: LoadClass;
  readonly spareRoomOnly: boolean;
}

export interface Want {
  readonly key: string;
  readonly model: string;
  readonly revision: string;
  readonly by: Map<string, Wanted>;
  /** Pods that were asked and have not answered. */
  readonly asked: Map<string, NodeJS.Timeout>;
  readonly excluded: Map<string, { readonly reason: string; readonly untilMs: number }>;
  failure: Failure | undefined;
  retry: NodeJS.Timeout | undefined;
}

/** As many as whoever wants most, and the model may have. */
export function countOf(want: Want, model: Model | undefined): number {
  const most = Math.max(0, ...Array.from(want.by.values(), ({ count }) => count));
  return Math.min(most, model?.maxCopies ?? most);
}

/** The most urgent one. */
export function classOf(want: Want): LoadClass {
  const [first, ...rest] = Array.from(want.by.values(), ({ loadClass }) => loadClass);
  return rest.reduce((best, loadClass) => (rankOf(loadClass) < rankOf(best) ? loadClass : best), first ?? "proactive");
}

/** In words. */
export function reasonOf(want: Want): string {
  return Array.from(want.by, ([by, { count, loadClass }]) => `${count} for ${by === "" ? loadClass : by}`).join(", ");
}

/** Wanted only where room is to spare. */
export function isSpare({ by }: Want): boolean {
  return Array.from(by.values()).every(({ spareRoomOnly }) => spareRoomOnly);
}

function rankOf(loadClass: LoadClass): number {
  return loadClasses.indexOf(loadClass);
}

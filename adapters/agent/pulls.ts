// Owns which loads still fetch their artefact, and which of those stand still: a store that hangs in the middle of a body, or
// trickles, holds up nobody but who wants something from it.
//
//   pulling --nothing came--> stalled
//      |   <----it moves-----    |
//      +------- all there -------+--> waiting --its turn--> admitted: the model server loads it
//
// Invariants: a load that stands still takes no place among the loads under way, so that another may start instead, up to a
// bound; so more may have everything at one time than the model server is to load at a time, and the rest wait for their
// turn, the most urgent first. No load starts meanwhile, so that turn comes.
import { type LoadClass, loadClasses } from "#core/loadqueue.ts";

export interface Pulls {
  begin(key: string, loadClass: LoadClass): void;
  stall(key: string, stalled: boolean): void;
  pulled(key: string): void;
  end(key: string): void;
  /** Whose turn it is, when the model server is to load so many at a time. */
  admit(loadConcurrency: number): readonly string[];
  /** That take no place. */
  readonly stalled: number;
}

interface Pull {
  readonly loadClass: LoadClass;
  state: "pulling" | "stalled" | "waiting" | "admitted";
}

export function createPulls(maxStalled: number): Pulls {
  const pulls = new Map<string, Pull>();
  const waiting = new Set<string>();
  let admitted = 0;
  let stalled = 0;

  function leave(key: string, pull: Pull): void {
    if (pull.state === "stalled") stalled -= 1;
    else if (pull.state === "admitted") admitted -= 1;
    else if (pull.state === "waiting") waiting.delete(key);
  }

  function mostUrgent(): string | undefined {
    let found: { readonly key: string; readonly rank: number } | undefined;
    for (const key of waiting) {
      const rank = loadClasses.indexOf(pulls.get(key)?.loadClass ?? "proactive");
      if (found === undefined || rank < found.rank) found = { key, rank };
    }
    return found?.key;
  }

  return {
    begin: (key, loadClass) => void pulls.set(key, { loadClass, state: "pulling" }),
    stall(key, isStalled) {
      const pull = pulls.get(key);
      if (pull?.state !== (isStalled ? "pulling" : "stalled")) return;
      leave(key, pull);
      pull.state = isStalled ? "stalled" : "pulling";
      if (isStalled) stalled += 1;
    },
    pulled(key) {
      const pull = pulls.get(key);
      if (pull === undefined || pull.state === "waiting" || pull.state === "admitted") return;
      leave(key, pull);
      pull.state = "waiting";
      waiting.add(key);
    },
    end(key) {
      const pull = pulls.get(key);
      if (pull === undefined) return;
      leave(key, pull);
      pulls.delete(key);
    },
    admit(loadConcurrency) {
      const keys: string[] = [];
      while (admitted < loadConcurrency) {
        const key = mostUrgent();
        const pull = key === undefined ? undefined : pulls.get(key);
        if (key === undefined || pull === undefined) break;
        waiting.delete(key);
        pull.state = "admitted";
        admitted += 1;
        keys.push(key);
      }
      return keys;
    },
    get stalled() {
      return Math.min(stalled, maxStalled);
    },
  };
}

// Owns the suspicion that a model kills the model servers that are asked for it, though it loads well.
// A model server that dies takes all requests under way with it, and only one of them is to blame. So each death is shared
// out among the models whose requests came back from that pod about then, by how little each was answered lately: what is
// answered a hundred times a minute is hardly what kills whoever is asked. A part of each death is nobody's, since servers
// die of themselves too. A model with so much blame that one death cannot be the reason is kept off the pods for a while,
// twice as long each time.
// Invariants: memory is bounded, and the oldest suspects are forgotten first; a death is blamed on nobody for longer than
// memoryMs. Pure.

export interface Deaths {
  /** Requests for it came back without an answer from these pods: from one of them, which is not known. */
  returned(key: string, podIds: readonly string[], nowMs: number): void;
  /** Returns whose requests had come back from it just before. */
  died(podId: string, nowMs: number): readonly string[];
  /** Requests for the model were answered well. */
  answered(model: string, requests: number, nowMs: number): void;
  /** Until when it is kept off the pods, and after which deaths; undefined when it is not. */
  check(key: string, nowMs: number): KeptOff | undefined;
  /** Those whose time is over since the last call, or that turned out to be answered well. Once a second. */
  released(nowMs: number): readonly string[];
}

export interface KeptOff {
  readonly untilMs: number;
  readonly podIds: readonly string[];
}

export interface DeathsOptions {
  readonly maxSuspects: number;
  readonly modelOf: (key: string) => string;
}

interface Death {
  readonly podId: string;
  readonly atMs: number;
  /** Whose requests were under way. */
  readonly keys: Set<string>;
}

interface Suspect {
  deaths: readonly Death[];
  quarantines: number;
  sinceMs: number;
  untilMs: number;
  podIds: readonly string[];
}

/** What came back so long before or after a death may have to do with it. */
const windowMs = 1_000;
const memoryMs = 2 * 60_000;
const blameEnough = 1.5;
/** Of itself, as if it were a model that was answered twenty times. */
const nobodysWeight = 0.05;
const firstMs = 5 * 60_000;
const longestMs = 60 * 60_000;
const servedMs = 60_000;
/** It is known so late of the last answers. */
const settleMs = 3_000;

/** `modelOf`: keys name revisions, and uses are told by model. */
export function createDeaths({ maxSuspects, modelOf }: DeathsOptions): Deaths {
  /** By pod: what came back from it lately, and when. */
  const back = new Map<string, Map<string, number>>();
  /** By pod: its last death. */
  const last = new Map<string, Death>();
  const suspects = new Map<string, Suspect>();
  /** Requests answered by model, of this minute and the one before. */
  let served = new Map<string, number>();
  let servedBefore = new Map<string, number>();
  let servedSinceMs = 0;

  function turn(nowMs: number): void {
    if (nowMs - servedSinceMs < servedMs) return;
    servedBefore = nowMs - servedSinceMs < 2 * servedMs ? served : new Map();
    served = new Map();
    servedSinceMs = nowMs;
  }

  function count(model: string, requests: number): void {
    if (served.size < maxSuspects || served.has(model)) served.set(model, (served.get(model) ?? 0) + requests);
  }

  function weightOf(key: string): number {
    const model = modelOf(key);
    return 1 / (1 + (served.get(model) ?? 0) + (servedBefore.get(model) ?? 0));
  }

  function blameOf(key: string, { deaths }: Suspect): number {
    return deaths.reduce((blame, { keys }) => {
      let sum = nobodysWeight;
      for (const each of keys) sum += weightOf(each);
      return blame + weightOf(key) / sum;
    }, 0);
  }

  function blame(key: string, death: Death, nowMs: number): void {
    if (death.keys.has(key) || death.keys.size >= maxSuspects) return;
    death.keys.add(key);
    const suspect = suspects.get(key) ?? { deaths: [], quarantines: 0, sinceMs: 0, untilMs: 0, podIds: [] };
    // Deleted first, so that the map's order is the order of deaths.
    suspects.delete(key);
    suspects.set(key, suspect);
    suspect.deaths = [...suspect.deaths.filter(({ atMs }) => nowMs - atMs < memoryMs), death];
    if (nowMs >= suspect.untilMs && blameOf(key, suspect) >= blameEnough) {
      suspect.podIds = Array.from(new Set(suspect.deaths.map(({ podId }) => podId)));
      suspect.sinceMs = nowMs;
      suspect.untilMs = nowMs + Math.min(longestMs, firstMs * 2 ** suspect.quarantines);
      suspect.quarantines += 1;
    }
    const oldest = suspects.keys().next().value;
    if (suspects.size > maxSuspects && oldest !== undefined) suspects.delete(oldest);
  }

  function forgetPods(nowMs: number): void {
    for (const [podId, { atMs }] of last) if (nowMs - atMs > windowMs) last.delete(podId);
    for (const [podId, keys] of back) {
      for (const [key, atMs] of keys) if (nowMs - atMs > windowMs) keys.delete(key);
      if (keys.size === 0) back.delete(podId);
    }
  }

  return {
    returned(key, podIds, nowMs) {
      turn(nowMs);
      for (const podId of podIds) {
        const death = last.get(podId);
        // One that has come back from it before comes back from the next one, which is not told yet.
        if (death !== undefined && nowMs - death.atMs <= windowMs && !death.keys.has(key)) blame(key, death, nowMs);
        else {
          const keys = back.get(podId) ?? new Map<string, number>();
          if (keys.size < maxSuspects || keys.has(key)) back.set(podId, keys.set(key, nowMs));
        }
      }
    },
    died(podId, nowMs) {
      turn(nowMs);
      const death = { podId, atMs: nowMs, keys: new Set<string>() };
      last.set(podId, death);
      const keys = Array.from(back.get(podId) ?? []).flatMap(([key, atMs]) => (nowMs - atMs <= windowMs ? [key] : []));
      for (const key of keys) blame(key, death, nowMs);
      back.delete(podId);
      return keys;
    },
    answered(model, requests, nowMs) {
      turn(nowMs);
      count(model, requests);
    },
    check(key, nowMs) {
      const suspect = suspects.get(key);
      return suspect !== undefined && nowMs < suspect.untilMs ? { untilMs: suspect.untilMs, podIds: suspect.podIds } : undefined;
    },
    released(nowMs) {
      forgetPods(nowMs);
      const over: string[] = [];
      for (const [key, suspect] of suspects) {
        if (suspect.untilMs === 0) continue;
        const cleared = nowMs - suspect.sinceMs < settleMs && blameOf(key, suspect) < blameEnough;
        if (nowMs < suspect.untilMs && !cleared) continue;
        if (cleared) suspect.quarantines -= 1;
        suspect.untilMs = 0;
        suspect.deaths = [];
        over.push(key);
      }
      return over;
    },
  };
}

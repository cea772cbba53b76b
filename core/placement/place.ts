// Owns the answer to "which pod shall take a copy of this revision": filter, rank, explain.
// Invariants: the same arguments give the same answer, whatever the order of the pods; the pod chosen passed every judge
// and is the best of those by rank; the explanation says for every pod why not, or with which keys.
// O(pods) for each decision, a fraction of a microsecond for each: a decision is taken only for a miss or a change.
import { type Judge, type JudgeName, judges, type NowhereCode } from "./filters.ts";
import { countHolders, createRanking, type Ranking, type RankKeys } from "./rank.ts";
import type { PlacementRequest, PodView } from "./request.ts";

export type PodVerdict =
  | { readonly podId: string; readonly kind: "refused"; readonly judge: JudgeName; readonly reason: string }
  | { readonly podId: string; readonly kind: "ranked"; readonly keys: RankKeys };

export interface PlacementExplanation {
  readonly model: string;
  readonly revision: string;
  /** One for each pod, as they came. */
  readonly pods: readonly PodVerdict[];
}

export type Placement =
  | {
      readonly kind: "placed";
      readonly podId: string;
      /** What spoke for the pod. */
      readonly keys: RankKeys;
      readonly explanation: PlacementExplanation;
    }
  | { readonly kind: "nowhere"; readonly code: NowhereCode; readonly explanation: PlacementExplanation };

export function place(request: PlacementRequest, pods: readonly PodView[], nowMs: number): Placement {
  const ranking = createRanking(request, countHolders(request, pods));
  const asked = judgesOf(request);
  const fit: PodView[] = [];
  // The pod that got furthest names what is missing: with one pod of the right runtime down, others of a wrong one say nothing.
  let furthest = -1;
  for (const pod of pods) {
    const refusal = refusalOf(asked, request, pod, nowMs);
    if (refusal < 0) fit.push(pod);
    else furthest = Math.max(furthest, refusal);
  }
  const best = ranking.best(fit);
  let explained: PlacementExplanation | undefined;
  const explanation = {
    // Made when it is asked for: most decisions are never explained, and a fleet may have a thousand pods.
    get explanation(): PlacementExplanation {
      const { model, revision } = request;
      explained ??= { model, revision, pods: pods.map((pod) => judgePod(asked, request, pod, ranking, nowMs)) };
      return explained;
    },
  };
  if (best !== undefined) {
    return Object.assign(explanation, { kind: "placed" as const, podId: best.podId, keys: ranking.keys(best) });
  }
  return Object.assign(explanation, { kind: "nowhere" as const, code: judges[furthest]?.code ?? "no-pods" });
}

interface Asked {
  readonly refuses: Judge["refuses"];
  /** Its place among all. */
  readonly at: number;
}

/** Those that the request concerns: for a usual one half of them. */
function judgesOf(request: PlacementRequest): readonly Asked[] {
  return judges.flatMap(({ refuses, concerns }, at) => (concerns?.(request) === false ? [] : [{ refuses, at }]));
}

/** Which judge refuses the pod, by its place; -1: none does. */
function refusalOf(asked: readonly Asked[], request: PlacementRequest, pod: PodView, nowMs: number): number {
  for (const { refuses, at } of asked) if (refuses(request, pod, nowMs)) return at;
  return -1;
}

function judgePod(asked: readonly Asked[], request: PlacementRequest, pod: PodView, ranking: Ranking, nowMs: number): PodVerdict {
  const { podId } = pod;
  const judge = judges[refusalOf(asked, request, pod, nowMs)];
  if (judge === undefined) return { podId, kind: "ranked", keys: ranking.keys(pod) };
  return { podId, kind: "refused", judge: judge.name, reason: judge.reason(request, pod) };
}

/** One line for people and logs, such as `nowhere for m: 3 pods (2 draining, 1 capacity)`. */
export function describePlacement(placement: Placement): string {
  const { model, pods } = placement.explanation;
  const counts = new Map<string, number>();
  for (const verdict of pods) {
    const label = verdict.kind === "ranked" ? "fit" : verdict.judge;
    counts.set(label, (counts.get(label) ?? 0) + 1);
  }
  const where = placement.kind === "placed" ? `${placement.podId} for ${model}` : `nowhere for ${model}`;
  const detail = Array.from(counts, ([label, count]) => `${count} ${label}`).join(", ");
  return `${where}: ${pods.length} pods${detail === "" ? "" : ` (${detail})`}`;
}

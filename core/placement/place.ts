// Owns the answer to "which pod shall take a copy of this revision": filter, rank, explain.
// Invariants: the same arguments give the same answer, whatever the order of the pods; the pod chosen passed every judge
// and is the best of those by rank; the explanation says for every pod why not, or with which keys.
// O(pods) for each decision, a fraction of a microsecond for each: a decision is taken only for a miss or a change.
import { type JudgeName, judges, type NowhereCode } from "./filters.ts";
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
  const best = ranking.best(pods.filter((pod) => refusalOf(request, pod, nowMs) === undefined));
  let explained: PlacementExplanation | undefined;
  // Made when it is asked for: most decisions are never explained, and a fleet may have a thousand pods.
  const explain = (): PlacementExplanation => {
    const { model, revision } = request;
    explained ??= { model, revision, pods: pods.map((pod) => judgePod(request, pod, ranking, nowMs)) };
    return explained;
  };
  const explanation = {
    get explanation(): PlacementExplanation {
      return explain();
    },
  };
  if (best !== undefined) {
    return Object.assign(explanation, { kind: "placed" as const, podId: best.podId, keys: ranking.keys(best) });
  }
  return Object.assign(explanation, { kind: "nowhere" as const, code: nowhereCode(explain().pods) });
}

function refusalOf(
  request: PlacementRequest,
  pod: PodView,
  nowMs: number,
): { readonly judge: JudgeName; readonly reason: string } | undefined {
  for (const { name, judge } of judges) {
    const reason = judge(request, pod, nowMs);
    if (reason !== undefined) return { judge: name, reason };
  }
  return undefined;
}

function judgePod(request: PlacementRequest, pod: PodView, ranking: Ranking, nowMs: number): PodVerdict {
  const refusal = refusalOf(request, pod, nowMs);
  if (refusal !== undefined) return { podId: pod.podId, kind: "refused", ...refusal };
  return { podId: pod.podId, kind: "ranked", keys: ranking.keys(pod) };
}

/** The pod that got furthest names what is missing: with one pod of the right runtime down, others of a wrong one say nothing. */
function nowhereCode(verdicts: readonly PodVerdict[]): NowhereCode {
  let code: NowhereCode = "no-pods";
  let furthest = -1;
  for (const verdict of verdicts) {
    const at = verdict.kind === "refused" ? judges.findIndex(({ name }) => name === verdict.judge) : -1;
    if (at > furthest) {
      furthest = at;
      code = judges[at]?.code ?? code;
    }
  }
  return code;
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

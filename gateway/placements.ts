// Owns the choice of pods for copies: what the fleet looks like to a placement, with what was asked of each pod lately.
// Gauges come every half second, too late for a burst: an ask that is not answered yet counts as queued.
import type { Revision } from "#core/model.ts";
import { type Placement, place } from "#core/placement/place.ts";
import type { PlacementRequest, PodView } from "#core/placement/request.ts";
import type { Clock } from "#platform/clock.ts";
import type { Fleet } from "./fleet.ts";

/** What differs from one placement to the next. */
export type PlacementNeeds = Pick<PlacementRequest, "excluded" | "holders" | "waitingUser" | "minAgeMs"> &
  Partial<Pick<PlacementRequest, "requestsPerSecond" | "prefersNew" | "sizeBytes">>;

export interface Placements {
  choose(model: string, revision: Revision, needs: PlacementNeeds): Placement;
  /** A load is asked of the pod. */
  asked(podId: string): void;
  /** It came to an end, whatever that was. */
  answered(podId: string): void;
}

/** What a revision asks of a pod, whatever pods there are. */
export function requestOf(model: string, revision: Revision, needs: PlacementNeeds): PlacementRequest {
  return {
    model,
    revision: revision.id,
    format: revision.format,
    formatVersion: revision.formatVersion,
    runtime: revision.runtime,
    sizeBytes: revision.sizeHintBytes ?? 0,
    requiredLabels: revision.requiredLabels ?? {},
    preferredLabels: revision.preferredLabels ?? {},
    ...needs,
  };
}

export interface PlacementsOptions {
  /** Told of each decision. */
  readonly onPlaced?: (result: "placed" | "refused") => void;
  /** Pods that would refuse it: asked only when no other is left, so that one of them says why. */
  readonly avoided?: (model: string, revision: Revision) => PlacementRequest["excluded"];
}

export function createPlacements(
  fleet: Fleet,
  clock: Pick<Clock, "monotonicMs">,
  { onPlaced, avoided }: PlacementsOptions = {},
): Placements {
  const asked = new Map<string, number>();

  function busy(view: PodView): PodView {
    const queued = asked.get(view.podId) ?? 0;
    return queued > view.queued ? { ...view, queued } : view;
  }

  /** Of all holders together; one holder is the usual case. */
  function partners(holders: ReadonlySet<string>): ReadonlySet<string> {
    const [first, ...rest] = holders;
    if (first === undefined) return holders;
    const known = fleet.partners(first);
    return rest.length === 0 ? known : new Set([...rest, ...known]);
  }

  return {
    choose(model, revision, needs) {
      const request = { ...requestOf(model, revision, needs), partners: partners(needs.holders) };
      const views = fleet.views();
      const pods = asked.size === 0 ? views : views.map(busy);
      const nowMs = clock.monotonicMs();
      const worse = avoided?.(model, revision);
      const steered =
        worse === undefined || worse.size === 0
          ? undefined
          : place({ ...request, excluded: new Map([...request.excluded, ...worse]) }, pods, nowMs);
      const placement = steered?.kind === "placed" ? steered : place(request, pods, nowMs);
      onPlaced?.(placement.kind === "placed" ? "placed" : "refused");
      return placement;
    },
    asked: (podId) => void asked.set(podId, (asked.get(podId) ?? 0) + 1),
    answered(podId) {
      const left = (asked.get(podId) ?? 1) - 1;
      if (left > 0) asked.set(podId, left);
      else asked.delete(podId);
    },
  };
}

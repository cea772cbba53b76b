// Owns the answer to "why": why a model is where it is, why it is not loaded, why a request for it waited. Made from what
// the decisions themselves say, as of now; nothing is decided here.
import { findRevision, type Model, type Revision } from "#core/model.ts";
import type { PodVerdict } from "#core/placement/place.ts";
import type { Decisions, TimedDecision } from "../decisions.ts";
import type { Home } from "../home.ts";
import type { JournalEvent } from "../journal.ts";
import type { Placements } from "../placements.ts";
import type { Outcome } from "./models.ts";
import { type CopyStatus, describeModel, type FailureStatus, type ModelStatus, type StatusParts } from "./status.ts";

export interface Explanation {
  readonly name: string;
  /** For people, the most important one first. */
  readonly lines: readonly string[];
  readonly state: ModelStatus["state"];
  readonly transition: ModelStatus["transition"];
  readonly copies: readonly CopyStatus[];
  readonly failure?: FailureStatus;
  /** Where one more copy would go now, and what every other pod has against it. */
  readonly placement: {
    readonly revision: string;
    readonly pod?: string;
    readonly code?: string;
    readonly pods: readonly PodVerdict[];
    /** Verdicts left out. */
    readonly omitted: number;
  };
  readonly events: readonly JournalEvent[];
  /** What was decided lately, the latest first. */
  readonly decisions: readonly TimedDecision[];
  /** The gateway that decides on this model; undefined: this one. */
  readonly home?: string;
}

export interface ExplainParts extends StatusParts {
  readonly placements: Pick<Placements, "choose">;
  readonly decisions: Pick<Decisions, "of">;
  readonly home: Pick<Home, "of">;
  readonly journal: StatusParts["journal"] & { readonly events: (model: string) => readonly JournalEvent[] };
}

const maxVerdicts = 200;
const maxShown = 5;

export type Explain = (name: string) => Outcome<Explanation>;

export function createExplain(findModel: (name: string) => Model | undefined, parts: ExplainParts): Explain {
  return (name) => {
    const model = findModel(name);
    return model === undefined
      ? { kind: "refused", code: "model-not-found", reason: `no model '${name}' is registered` }
      : { kind: "ok", value: explainModel(model, parts) };
  };
}

function explainModel(model: Model, parts: ExplainParts): Explanation {
  const status = describeModel(model, parts);
  const { name } = model;
  // What loads next: the target, while there is one.
  const revision = findRevision(model, model.target ?? model.active) ?? model.revisions[0];
  if (revision === undefined) throw new RangeError(`model ${name} has no revisions`);
  const placement = explainPlacement(model, revision, status, parts);
  const failure = status.revisionStates.find(({ id }) => id === revision.id)?.failure;
  const events = parts.journal.events(name);
  const decisions = parts.decisions.of(name);
  const home = parts.home.of(name)?.gatewayId;
  return {
    name,
    lines: [
      describeState(status),
      ...describeTransition(status),
      ...(failure === undefined ? [] : [describeFailure(revision, failure)]),
      describePlace(placement),
      ...describeDecisions(decisions),
      ...describeWaits(events),
      ...(home === undefined ? [] : [`Gateway ${home} decides on this model: it knows more of why.`]),
    ],
    state: status.state,
    transition: status.transition,
    copies: status.copies,
    ...(failure === undefined ? {} : { failure }),
    placement,
    events,
    decisions,
    ...(home === undefined ? {} : { home }),
  };
}

function explainPlacement(
  model: Model,
  revision: Revision,
  status: ModelStatus,
  { placements }: ExplainParts,
): Explanation["placement"] {
  const held = status.copies.filter((copy) => copy.revision === revision.id && copy.state !== "failed");
  const decision = placements.choose(model.name, revision, {
    excluded: new Map(),
    holders: new Set(held.map(({ pod }) => pod)),
    waitingUser: true,
    minAgeMs: 0,
  });
  const { pods } = decision.explanation;
  return {
    revision: revision.id,
    ...(decision.kind === "placed" ? { pod: decision.podId } : { code: decision.code }),
    pods: pods.slice(0, maxVerdicts),
    omitted: Math.max(0, pods.length - maxVerdicts),
  };
}

function describeState({ name, state, active, copies, copyCounts }: ModelStatus): string {
  const own = copies.filter(({ revision }) => revision === active);
  const on = (wanted: readonly string[]): string =>
    list(own.filter(({ state: at }) => wanted.includes(at)).map(({ pod }) => pod));
  switch (state) {
    case "ready":
      return `${name} is ready: revision ${active} is on ${on(["ready"])}; requests go there without asking a gateway.`;
    case "loading":
      return `${name} is loading revision ${active} on ${on(["queued", "loading"])}: ${copyCounts.queued} queued, ${copyCounts.loading} under way; requests wait for it.`;
    case "failed":
      return `${name} could not be loaded: requests are refused with the reason until it is tried again.`;
    case "cold":
      return `${name} is cold: no pod holds revision ${active}, as nobody asked for it lately or its room was needed. The next request loads it.`;
  }
}

function describeTransition({ transition, active, target, failure, revisionStates }: ModelStatus): string[] {
  if (target === undefined) return [];
  const count = (id: string): number => revisionStates.find((state) => state.id === id)?.copies.ready ?? 0;
  const progress = `${count(target)} of ${Math.max(1, count(active))} copies are ready`;
  return transition === "BlockedByFailedLoad" && failure !== undefined
    ? [`Target ${target} does not load (${failure.code}: ${failure.reason}); ${active} serves on, and it is tried again.`]
    : [`Target ${target} is loading: ${progress}; then requests go there instead of to ${active}.`];
}

function describeFailure({ id }: Revision, { code, reason, retryAfterMs }: FailureStatus): string {
  const again = retryAfterMs === undefined ? "" : `; not tried again for ${Math.ceil(retryAfterMs / 1_000)} s`;
  return `The last load of ${id} failed: ${code}: ${reason}${again}.`;
}

function describePlace({ revision, pod, code, pods }: Explanation["placement"]): string {
  const refusals = pods.flatMap((verdict) => (verdict.kind === "refused" ? [`${verdict.podId}: ${verdict.reason}`] : []));
  const others = refusals.length === 0 ? "" : ` Not on ${list(refusals, "; ")}.`;
  return pod === undefined
    ? `No pod would take a copy of ${revision} now (${code ?? "no pods"}).${others}`
    : `One more copy of ${revision} would go to ${pod} now.${others}`;
}

function describeDecisions(decisions: readonly TimedDecision[]): string[] {
  return decisions.slice(0, maxShown).map(({ atMs, kind, podId, revision, reason }) => {
    const where = podId === undefined ? "" : ` on ${podId}`;
    return `${new Date(atMs).toISOString()} ${kind} ${revision}${where}: ${reason}.`;
  });
}

function describeWaits(events: readonly JournalEvent[]): string[] {
  const waits = events.filter(({ what }) => what === "waited").slice(-maxShown);
  return waits.map(({ atMs, reason }) => `A request at ${new Date(atMs).toISOString()} ${reason ?? "waited"}.`);
}

function list(items: readonly string[], separator = ", "): string {
  if (items.length === 0) return "no pod";
  const more = items.length - maxShown;
  return items.slice(0, maxShown).join(separator) + (more > 0 ? `${separator}and ${more} more` : "");
}

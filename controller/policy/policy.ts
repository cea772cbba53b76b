// Owns what an AccessPolicy says and what its status tells. Pure: an object becomes the registry's record of a policy, or is
// refused in one sentence.
// Invariant: a policy of a namespace opens models of that namespace alone, whatever stands in it.
import { parsePolicy } from "#core/access.ts";
import { buildConditions, type Condition } from "../conditions.ts";
import { type KubeObject, record } from "../engine/objects.ts";

export interface PolicySource {
  readonly name: string;
  readonly namespace: string;
  readonly generation: number;
  /** The record's value; undefined when it says nothing that could count. */
  readonly value: string | undefined;
  /** What is wrong with it, for its user. */
  readonly invalid: string | undefined;
  readonly status: Readonly<Record<string, unknown>>;
}

export function parseAccessPolicy({ metadata, body }: KubeObject): PolicySource {
  const namespace = metadata.namespace ?? "";
  const spec = record(body["spec"]);
  const parsed = parsePolicy("policy", { ...spec, models: { ...record(spec["models"]), tenant: namespace } });
  return {
    name: metadata.name,
    namespace,
    generation: metadata.generation,
    value: parsed.kind === "ok" ? JSON.stringify({ callers: parsed.policy.callers, models: parsed.policy.models }) : undefined,
    invalid: parsed.kind === "ok" ? undefined : parsed.reason,
    status: record(body["status"]),
  };
}

/** `refused`: why its record could not be written. `isEnforced`: whether callers of this release prove who they are. */
export function buildPolicyStatus(
  source: PolicySource,
  { refused, isEnforced }: Readonly<{ refused: string | undefined; isEnforced: boolean }>,
  nowMs: number,
): Readonly<Record<string, unknown>> {
  const wrong = source.invalid ?? refused;
  const accepted: Condition =
    wrong === undefined
      ? { type: "Accepted", status: "True", reason: "Accepted", message: "the gateways have it" }
      : { type: "Accepted", status: "False", reason: "Invalid", message: `it opens nothing: ${wrong}` };
  const enforced: Condition = isEnforced
    ? { type: "Enforced", status: "True", reason: "CallersProve", message: "what no policy opens is closed" }
    : {
        type: "Enforced",
        status: "False",
        reason: "NobodyAsked",
        message: "callers are not asked who they are (auth.enabled of the chart), so everybody may call every model",
      };
  return {
    observedGeneration: source.generation,
    conditions: buildConditions([accepted, enforced], source.status["conditions"], source.generation, nowMs),
  };
}

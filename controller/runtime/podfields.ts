// Owns the joint to Kubernetes' types: what users write into pods by way of runtimes. What makes each entry one of its kind is
// looked at here; the rest of it is judged by the API server, when it is applied.
import type { V1EnvVar, V1Toleration, V1Volume, V1VolumeMount } from "@kubernetes/client-node";
import { isRecord } from "#core/fields.ts";

export function isVolume(value: unknown): value is V1Volume {
  return isRecord(value) && typeof value["name"] === "string";
}

export function isVolumeMount(value: unknown): value is V1VolumeMount {
  return isRecord(value) && typeof value["name"] === "string" && typeof value["mountPath"] === "string";
}

export function isEnvVar(value: unknown): value is V1EnvVar {
  return isRecord(value) && typeof value["name"] === "string";
}

export function isToleration(value: unknown): value is V1Toleration {
  return isRecord(value);
}

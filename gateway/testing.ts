// Owns what tests of a gateway's parts stand on: models of one revision, pods, and what pods say of themselves.
import assert from "node:assert/strict";
import { type Model, parseModel } from "#core/model.ts";
import { noGauges, type PodGauges, type PodInfo } from "./fleet.ts";

/** With the one revision r1, thought to take 1,000 bytes. */
export function modelOf(name: string, more: object = {}): Model {
  const revision = { id: "r1", slot: 0, format: "onnx", storageUri: "file:///m.onnx", sizeHintBytes: 1_000 };
  const parsed = parseModel({ name, revisions: [revision], active: "r1", ...more });
  return parsed.kind === "ok" ? parsed.model : assert.fail(parsed.reason);
}

/** With room for a gigabyte. */
export function podInfo(podId: string, more: Partial<PodInfo> = {}): PodInfo {
  const address = { host: "127.0.0.1", port: 9_000 };
  return {
    podId,
    incarnation: "1",
    runtime: "onnx",
    capacityBytes: 1e9,
    rest: address,
    grpc: address,
    labels: {},
    formats: ["onnx"],
    ...more,
  };
}

/** Of a pod that is empty and idle, but for what is given. */
export function gaugesOf(more: Partial<PodGauges>): PodGauges {
  return { ...noGauges, ...more };
}

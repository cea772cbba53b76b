// Owns what tests of decisions about pods stand on.
import type { PlacementRequest, PodView } from "./request.ts";

/** An empty pod of 100 bytes. */
export function podView(podId: string, change: Partial<PodView> = {}): PodView {
  return {
    podId,
    runtime: "onnx",
    formats: ["onnx"],
    labels: {},
    capacityBytes: 100,
    usedBytes: 0,
    queued: 0,
    loading: 0,
    oldestIdleMs: 0,
    draining: false,
    reachable: true,
    requestsPerSecond: 0,
    zone: undefined,
    node: undefined,
    ...change,
  };
}

/** A user waits for 10 bytes. */
export function placementRequest(change: Partial<PlacementRequest> = {}): PlacementRequest {
  return {
    model: "iris",
    revision: "r1",
    format: "onnx",
    runtime: undefined,
    sizeBytes: 10,
    requiredLabels: {},
    preferredLabels: {},
    excluded: new Map(),
    holders: new Set(),
    waitingUser: true,
    minAgeMs: 60_000,
    ...change,
  };
}

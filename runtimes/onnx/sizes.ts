// Owns the size of a loaded model: an estimate of the resident bytes that its session takes, from facts of its file.
// Fitted to sessions made by testing/measure-sizes.ts under MALLOC_TRIM_THRESHOLD_=131072 (ONNX Runtime 1.30, one thread,
// no arena): within 20 % of what was measured from 70 kB to 34 MB. sizes.test.ts measures again and allows 30 %.
// Without that variable the C library keeps freed build-time memory, and a session takes up to half as much again.
import type { ModelFacts } from "./scan.ts";

/** A session with an empty graph, and what one request leaves behind in it. */
const sessionBytes = 68_000;
/** A node with its kernel. */
const nodeBytes = 5_100;
/** Weights are copied once, packed for the processor, and the original is dropped. */
const weightRatio = 1.02;
/** Attributes of a tree ensemble are kept, and beside them the trees that are walked. */
const treeRatio = 5.3;

export function estimateSizeBytes(facts: ModelFacts): number {
  return Math.round(
    sessionBytes + nodeBytes * Math.max(1, facts.nodes) + weightRatio * facts.weightBytes + treeRatio * facts.treeBytes,
  );
}

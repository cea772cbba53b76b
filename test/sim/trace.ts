// Owns the trace of requests that a simulated fleet is driven by, and its file format.
//
// A trace is text, a line for each request after one line of facts:
//   {"format":"warmpath-trace-1","models":1000,"durationMs":60000}
//   12.5 17 4096          milliseconds from the beginning, number of the model, its bytes
// Times never go back. Made ones are seeded: the popularity of models is Zipf's, and drifts as ranks are handed on.

export interface TraceFacts {
  readonly models: number;
  readonly durationMs: number;
}

export interface TraceOptions extends TraceFacts {
  readonly seed: number;
  readonly requestsPerSecond: number;
  readonly zipfExponent: number;
  /** So often one model takes another one's popularity over. */
  readonly driftEveryMs: number;
}

export interface Trace extends TraceFacts {
  /** In parallel: when, which model. */
  readonly timesMs: Float64Array;
  readonly modelIds: Uint32Array;
  readonly sizesBytes: Float64Array;
}

/** mulberry32, by Tommy Ettinger, in the public domain: 32 bits of state, the same numbers everywhere. */
export function createRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function buildTrace(options: TraceOptions): Trace {
  const { models, durationMs, requestsPerSecond, zipfExponent, driftEveryMs } = options;
  const random = createRandom(options.seed);
  const sizesBytes = Float64Array.from({ length: models }, () => Math.round(1e6 * Math.exp(random() * 4)));
  // Cumulated popularity by rank, and which model has which rank.
  const cumulated = new Float64Array(models);
  let sum = 0;
  for (let rank = 0; rank < models; rank++) {
    sum += 1 / (rank + 1) ** zipfExponent;
    cumulated[rank] = sum;
  }
  const byRank = Uint32Array.from({ length: models }, (_, at) => at);
  for (let at = models - 1; at > 0; at--) swap(byRank, at, Math.floor(random() * (at + 1)));
  const count = Math.floor((durationMs / 1_000) * requestsPerSecond);
  const timesMs = new Float64Array(count);
  const modelIds = new Uint32Array(count);
  let driftMs = driftEveryMs;
  for (let at = 0; at < count; at++) {
    const nowMs = (at * 1_000) / requestsPerSecond;
    for (; driftMs <= nowMs; driftMs += driftEveryMs) {
      swap(byRank, Math.floor(random() * Math.min(models, 1_000)), Math.floor(random() * models));
    }
    timesMs[at] = nowMs;
    modelIds[at] = byRank[rankOf(cumulated, random() * sum)] ?? 0;
  }
  return { models, durationMs, timesMs, modelIds, sizesBytes };
}

export function formatTrace({ models, durationMs, timesMs, modelIds, sizesBytes }: Trace): string {
  const lines = [JSON.stringify({ format: "warmpath-trace-1", models, durationMs })];
  for (const [at, timeMs] of timesMs.entries()) {
    const model = modelIds[at] ?? 0;
    lines.push(`${timeMs} ${model} ${sizesBytes[model]}`);
  }
  return `${lines.join("\n")}\n`;
}

/** Throws a RangeError that names the line. */
export function parseTrace(text: string): Trace {
  const [head = "", ...lines] = text.trimEnd().split("\n");
  const facts = parseFacts(head);
  const timesMs = new Float64Array(lines.length);
  const modelIds = new Uint32Array(lines.length);
  const sizesBytes = new Float64Array(facts.models).fill(1);
  for (const [at, line] of lines.entries()) {
    const [timeMs = Number.NaN, model = Number.NaN, sizeBytes = Number.NaN] = line.split(" ").map(Number);
    const inOrder = timeMs >= (timesMs[at - 1] ?? 0);
    if (!inOrder || !Number.isSafeInteger(model) || model < 0 || model >= facts.models || !(sizeBytes > 0))
      throw new RangeError(`line ${at + 2} of the trace is malformed`);
    timesMs[at] = timeMs;
    modelIds[at] = model;
    sizesBytes[model] = sizeBytes;
  }
  return { ...facts, timesMs, modelIds, sizesBytes };
}

function parseFacts(head: string): TraceFacts {
  const facts: unknown = JSON.parse(head);
  if (typeof facts === "object" && facts !== null && "format" in facts && facts.format === "warmpath-trace-1") {
    const { models, durationMs } = { models: undefined, durationMs: undefined, ...facts } as Record<string, unknown>;
    if (typeof models === "number" && models >= 1 && typeof durationMs === "number") return { models, durationMs };
  }
  throw new RangeError("line 1 of the trace is malformed");
}

function rankOf(cumulated: Float64Array, wanted: number): number {
  let low = 0;
  let high = cumulated.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((cumulated[middle] ?? 0) < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}

function swap(list: Uint32Array, one: number, other: number): void {
  const kept = list[one] ?? 0;
  list[one] = list[other] ?? 0;
  list[other] = kept;
}

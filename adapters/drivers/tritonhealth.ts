// Owns finding models of Triton whose backend process has died. Triton calls them ready, answers each request for them with
// an error, and does not start the process again. A model that answered nothing but errors since the last look is
// suspected; a request of zeros tells it from one that is only asked wrong things. Triton takes a while to notice, so a suspect
// that answers with another error is asked again at the next looks.
// Invariant: at most a few requests for each look, whatever the number of models; a model is called dead only for Triton's
// own words about its process.
import { create } from "@bufbuild/protobuf";
import type { ServiceClient } from "#platform/grpc.ts";
import {
  type GRPCInferenceService,
  ModelInferRequestSchema,
  ModelMetadataRequestSchema,
  type ModelMetadataResponse,
  ModelStatisticsRequestSchema,
} from "#proto/gen/inference/open_inference_pb.ts";
import { ask } from "./grpc.ts";

export type TritonClient = ServiceClient<typeof GRPCInferenceService>;
/** What of it this takes. */
export type HealthClient = {
  readonly [Method in "modelStatistics" | "modelMetadata" | "modelInfer"]: (
    ...args: Parameters<TritonClient[Method]>
  ) => Promise<Awaited<ReturnType<TritonClient[Method]>>>;
};

export interface TritonHealth {
  /** Names among these whose backend is dead. */
  findDead(ready: ReadonlySet<string>, signal: AbortSignal): Promise<readonly string[]>;
  /** Of one that is about to be unloaded. */
  isDead(name: string, signal: AbortSignal): Promise<boolean>;
}

const callTimeoutMs = 5_000;
const suspectsAtATime = 4;
/** How often a suspect is asked that neither answers nor is known to be dead. */
const asksOfSuspect = 4;
const maxElements = 65_536;

interface Counts {
  readonly good: bigint;
  readonly bad: bigint;
}

export function createTritonHealth(client: HealthClient): TritonHealth {
  let before = new Map<string, Counts>();
  /** How often each is to be asked yet; who was suspected first comes first. */
  const suspects = new Map<string, number>();

  const probe = async (name: string, signal: AbortSignal): Promise<"dead" | "alive" | "unclear"> => {
    const metadata = await ask(
      client.modelMetadata(create(ModelMetadataRequestSchema, { name }), { timeoutMs: callTimeoutMs, signal }),
      signal,
    );
    const request = metadata.kind === "ok" ? requestOfZeros(name, metadata.answer) : undefined;
    if (request === undefined) return metadata.kind === "ok" ? "alive" : "unclear";
    const inferred = await ask(client.modelInfer(request, { timeoutMs: callTimeoutMs, signal }), signal);
    if (inferred.kind === "ok") return "alive";
    return /stub process .* is not healthy/i.test(inferred.words) ? "dead" : "unclear";
  };

  /** Of one model, or of all. */
  const count = async (name: string, signal: AbortSignal): Promise<Map<string, Counts> | undefined> => {
    const request = create(ModelStatisticsRequestSchema, { name });
    const called = await ask(client.modelStatistics(request, { timeoutMs: callTimeoutMs, signal }), signal);
    if (called.kind === "error") return undefined;
    const counts = new Map<string, Counts>();
    for (const { name, inferenceStats } of called.answer.modelStats) {
      const { good, bad } = counts.get(name) ?? { good: 0n, bad: 0n };
      const { success, fail } = inferenceStats ?? {};
      counts.set(name, { good: good + (success?.count ?? 0n), bad: bad + (fail?.count ?? 0n) });
    }
    return counts;
  };

  return {
    async isDead(name, signal): Promise<boolean> {
      const bad = (await count(name, signal))?.get(name)?.bad ?? 0n;
      return bad > 0n && (await probe(name, signal)) === "dead";
    },
    async findDead(ready, signal): Promise<readonly string[]> {
      const now = await count("", signal);
      if (now === undefined) return [];
      for (const [name, { good, bad }] of now) {
        const last = before.get(name) ?? { good: 0n, bad: 0n };
        if (good > last.good) suspects.delete(name);
        else if (bad > last.bad && !suspects.has(name)) suspects.set(name, asksOfSuspect);
      }
      before = now;
      for (const name of suspects.keys()) if (!ready.has(name)) suspects.delete(name);
      const dead: string[] = [];
      for (const [name, asks] of Array.from(suspects).slice(0, suspectsAtATime)) {
        suspects.delete(name);
        const found = await probe(name, signal);
        // A failure of its own is no news.
        const { good, bad } = now.get(name) ?? { good: 0n, bad: 0n };
        if (found !== "alive") before.set(name, { good, bad: bad + 1n });
        if (found === "dead") dead.push(name);
        else if (found === "unclear" && asks > 1) suspects.set(name, asks - 1);
      }
      return dead;
    },
  };
}

const elementBytes: Readonly<Record<string, number>> = {
  BOOL: 1,
  UINT8: 1,
  INT8: 1,
  UINT16: 2,
  INT16: 2,
  FP16: 2,
  BF16: 2,
  UINT32: 4,
  INT32: 4,
  FP32: 4,
  UINT64: 8,
  INT64: 8,
  FP64: 8,
  // An empty text is its length, 0.
  BYTES: 4,
};

/** Undefined when it would be too large, or of an unknown type. */
function requestOfZeros(
  name: string,
  { inputs }: ModelMetadataResponse,
): ReturnType<typeof create<typeof ModelInferRequestSchema>> | undefined {
  const raw: Uint8Array[] = [];
  const tensors = inputs.map(({ name, datatype, shape }) => {
    const sized = shape.map((size) => (size < 0n ? 1n : size));
    const elements = Number(sized.reduce((product, size) => product * size, 1n));
    raw.push(new Uint8Array(elements <= maxElements ? elements * (elementBytes[datatype] ?? 0) : 0));
    return { name, datatype, shape: sized };
  });
  if (raw.some(({ length }) => length === 0)) return undefined;
  return create(ModelInferRequestSchema, { modelName: name, inputs: tensors, rawInputContents: raw });
}

// Owns finding models of Triton whose backend process has died. Triton calls them ready, answers each request for them with
// an error, and does not start the process again. A model that answered nothing but errors since the last look is
// suspected; a request of zeros tells it from one that is only asked wrong things.
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

export interface TritonHealth {
  /** Names among these whose backend is dead. */
  findDead(ready: ReadonlySet<string>, signal: AbortSignal): Promise<readonly string[]>;
  /** Of one that is about to be unloaded. */
  isDead(name: string, signal: AbortSignal): Promise<boolean>;
}

const callTimeoutMs = 5_000;
const suspectsAtATime = 4;
const maxElements = 65_536;

interface Counts {
  readonly good: bigint;
  readonly bad: bigint;
}

export function createTritonHealth(client: TritonClient): TritonHealth {
  let before: ReadonlyMap<string, Counts> = new Map();

  const probe = async (name: string, signal: AbortSignal): Promise<boolean> => {
    const metadata = await ask(
      client.modelMetadata(create(ModelMetadataRequestSchema, { name }), { timeoutMs: callTimeoutMs, signal }),
      signal,
    );
    const request = metadata.kind === "ok" ? requestOfZeros(name, metadata.answer) : undefined;
    if (request === undefined) return false;
    const inferred = await ask(client.modelInfer(request, { timeoutMs: callTimeoutMs, signal }), signal);
    return inferred.kind === "error" && /stub process .* is not healthy/i.test(inferred.words);
  };

  /** Of one model, or of all. */
  const count = async (name: string, signal: AbortSignal): Promise<ReadonlyMap<string, Counts> | undefined> => {
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
      return bad > 0n && (await probe(name, signal));
    },
    async findDead(ready, signal): Promise<readonly string[]> {
      const now = await count("", signal);
      if (now === undefined) return [];
      const suspects = [...now].flatMap(([name, { good, bad }]) => {
        const last = before.get(name) ?? { good: 0n, bad: 0n };
        return ready.has(name) && bad > last.bad && good <= last.good ? [name] : [];
      });
      before = now;
      const dead: string[] = [];
      for (const name of suspects.slice(0, suspectsAtATime)) if (await probe(name, signal)) dead.push(name);
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

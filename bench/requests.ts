// Owns the requests of a benchmark: one for each of a choice of models, over REST and over gRPC, with the answer that the
// oracle expects of it.
import { toBinary } from "@bufbuild/protobuf";
import { type Expectation, type InferBody, refuteAnswer } from "#cli/library/answer.ts";
import type { Oracle } from "#cli/library/oracle.ts";
import { createRandom } from "#cli/library/random.ts";
import { magikaName } from "#cli/library/recipes.ts";
import type { Caller } from "#cli/traffic/caller.ts";
import { buildInferRequest } from "#cli/traffic/grpc.ts";
import { ModelInferRequestSchema } from "#proto/gen/inference/open_inference_pb.ts";
import type { RequestFile } from "./load/plan.ts";

export interface BenchCase {
  readonly model: string;
  readonly body: InferBody;
  readonly expect: Expectation;
}

const seed = 7;

/** So many models at even distances through the library, hence of all its kinds; magika's large body is left out. */
export function chooseCases(oracle: Oracle, count: number): readonly BenchCase[] {
  const names = oracle.models.filter((name) => name !== magikaName);
  const random = createRandom(seed);
  return chooseEvenly(names, count).map((model) => ({ model, ...oracle.sampleCase(model, random) }));
}

export function chooseEvenly<T>(items: readonly T[], count: number): readonly T[] {
  const step = items.length / Math.min(count, items.length);
  return items.filter((_, at) => Math.floor(at / step) !== Math.floor((at - 1) / step));
}

export function buildRequestFile(cases: readonly BenchCase[]): RequestFile {
  return {
    rest: cases.map(({ model, body }) => ({ path: `/v2/models/${model}/infer`, body: JSON.stringify(body) })),
    grpc: cases.map(({ model, body }) => ({
      path: "/inference.GRPCInferenceService/ModelInfer",
      body: Buffer.from(toBinary(ModelInferRequestSchema, buildInferRequest(model, body, "raw"))).toString("base64"),
    })),
  };
}

/** Calls every model once, a few at a time. Throws at the first wrong answer; returns how many had to wait for a load. */
export async function checkCases(caller: Caller, cases: readonly BenchCase[], signal: AbortSignal): Promise<number> {
  let next = 0;
  let misses = 0;
  const work = async (): Promise<void> => {
    for (let one = cases[next++]; one !== undefined; one = cases[next++]) {
      signal.throwIfAborted();
      const result = await caller.infer(one.model, one.body);
      const wrong = result.kind === "failed" ? result.reason : refuteAnswer(one.expect, result.outputs);
      if (wrong !== undefined) throw new Error(`${one.model} over ${caller.protocol}: ${wrong}`);
      if (result.kind === "answered" && result.miss) misses += 1;
    }
  };
  await Promise.all(Array.from({ length: 8 }, work));
  return misses;
}

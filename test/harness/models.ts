// Owns questions to models whose answers are known: asks over REST or gRPC, and fails unless the answer is right.
import { inspect } from "node:util";
import { refuteAnswer } from "#cli/library/answer.ts";
import type { Oracle } from "#cli/library/oracle.ts";
import { createRandom, type Random } from "#cli/library/random.ts";
import type { Caller, ClientTls } from "#cli/traffic/caller.ts";
import { createGrpcCaller } from "#cli/traffic/grpc.ts";
import { createRestCaller } from "#cli/traffic/rest.ts";

export interface Asker extends AsyncDisposable {
  /** Resolves to whether the request had to wait for a load; throws when the answer is not right. */
  ask(model: string, wire: "rest" | "grpc"): Promise<{ readonly miss: boolean }>;
}

export interface AskerOptions {
  readonly restUrl: string;
  readonly grpcTarget: string;
  readonly oracle: Oracle;
  /** REST requests under way at once. */
  readonly connections?: number;
  readonly tls?: ClientTls | undefined;
}

const timeoutMs = 30_000;

export function createAsker({ restUrl, grpcTarget, oracle, connections = 16, tls }: AskerOptions): Asker {
  const callers: Record<"rest" | "grpc", Caller> = {
    rest: createRestCaller({ url: restUrl, connections, timeoutMs, tls }),
    grpc: createGrpcCaller({ target: grpcTarget, timeoutMs, tls }),
  };
  const random: Random = createRandom("asker");
  return {
    async ask(model, wire) {
      const { body, expect } = oracle.sampleCase(model, random);
      const result = await callers[wire].infer(model, body);
      if (result.kind === "failed") throw new Error(`${model} over ${wire}: ${result.reason}`);
      const refuted = refuteAnswer(expect, result.outputs);
      if (refuted !== undefined) throw new Error(`${model} over ${wire}: ${refuted}; answered ${inspect(result.outputs)}`);
      return { miss: result.miss };
    },
    async [Symbol.asyncDispose]() {
      await callers.rest[Symbol.asyncDispose]();
      await callers.grpc[Symbol.asyncDispose]();
    },
  };
}

// Owns the asking for many models at the same moment, half over REST and half over gRPC, and the judging of a refusal: it
// is right when the client can tell from it that and when to try again.
import { Pool } from "undici";
import { parseAnswer, refuteAnswer } from "#cli/library/answer.ts";
import { createRandom } from "#cli/library/random.ts";
import { createGrpcCaller } from "#cli/traffic/grpc.ts";
import type { TestFleet } from "#test/harness/fleet.ts";
import type { FaultTraffic } from "./traffic.ts";

const timeoutMs = 60_000;
/** RESOURCE_EXHAUSTED and UNAVAILABLE. */
const retryableGrpc = /^gRPC: (8|14) /;
const retryableHttp: readonly number[] = [429, 503];

type Outcome = "right" | "refused" | { readonly failure: string };

/** Resolves when all have been answered; each is counted. */
export async function askAllAtOnce(fleet: TestFleet, models: readonly string[], traffic: FaultTraffic): Promise<void> {
  const random = createRandom("cold");
  const rest = new Pool(fleet.restUrl, { connections: models.length, headersTimeout: timeoutMs, bodyTimeout: timeoutMs });
  await using grpc = createGrpcCaller({ target: fleet.grpcTarget, timeoutMs });
  try {
    await Promise.all(
      models.map(async (model, at) => {
        const { body, expect } = fleet.oracle.sampleCase(model, random);
        const startMs = performance.now();
        let outcome: Outcome;
        if (at % 2 === 0) outcome = await overRest(model, JSON.stringify(body), expect);
        else {
          const result = await grpc.infer(model, body);
          if (result.kind === "answered") outcome = judge(model, refuteAnswer(expect, result.outputs));
          else outcome = retryableGrpc.test(result.reason) ? "refused" : { failure: result.reason };
        }
        traffic.count(performance.now() - startMs, outcome);
      }),
    );
  } finally {
    await rest.destroy();
  }

  async function overRest(model: string, body: string, expect: Parameters<typeof refuteAnswer>[0]): Promise<Outcome> {
    try {
      const headers = { "content-type": "application/json" };
      const answer = await rest.request({ method: "POST", path: `/v2/models/${model}/infer`, headers, body });
      const text = await answer.body.text();
      const { statusCode, headers: got } = answer;
      if (retryableHttp.includes(statusCode) && /^\d+$/.test(String(got["retry-after"])) && isError(text)) return "refused";
      const outputs = statusCode === 200 ? parseAnswer(JSON.parse(text)) : undefined;
      if (outputs === undefined) return { failure: `REST: ${model}: HTTP ${statusCode} ${JSON.stringify(got)} ${text}` };
      return judge(model, refuteAnswer(expect, outputs));
    } catch (error) {
      return { failure: `REST: ${model}: ${String(error)}` };
    }
  }
}

function judge(model: string, refuted: string | undefined): Outcome {
  return refuted === undefined ? "right" : { failure: `${model}: ${refuted}` };
}

/** V2's form of an error. */
function isError(text: string): boolean {
  try {
    const parsed: unknown = JSON.parse(text);
    return typeof parsed === "object" && parsed !== null && "error" in parsed && typeof parsed.error === "string";
  } catch {
    return false;
  }
}

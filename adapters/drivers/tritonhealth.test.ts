// Which models of Triton are asked whether they live, how often, and what their answers mean. With a real one: triton.test.ts.
import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import {
  ModelInferResponseSchema,
  ModelMetadataResponseSchema,
  ModelStatisticsResponseSchema,
} from "#proto/gen/inference/open_inference_pb.ts";
import { createTritonHealth, type HealthClient, type TritonHealth } from "./tritonhealth.ts";

const never = new AbortController().signal;
const ready = new Set(["m"]);
const dead = "Failed to process the request(s), message: Stub process 'm_0' is not healthy.";

describe("the health of Triton's models", () => {
  let counts: { good: number; bad: number };
  /** What each request is answered, an error unless it is empty; the last one again and again. */
  let words: string[];
  let asked: number;
  let health: TritonHealth;
  beforeEach(() => {
    counts = { good: 0, bad: 0 };
    words = [""];
    asked = 0;
    const client: HealthClient = {
      modelStatistics: async () =>
        create(ModelStatisticsResponseSchema, {
          modelStats: [
            {
              name: "m",
              inferenceStats: { success: { count: BigInt(counts.good) }, fail: { count: BigInt(counts.bad) } },
            },
          ],
        }),
      modelMetadata: async () =>
        create(ModelMetadataResponseSchema, { name: "m", inputs: [{ name: "x", datatype: "FP32", shape: [-1n, 4n] }] }),
      modelInfer: async () => {
        asked += 1;
        const error = words.length > 1 ? words.shift() : words[0];
        counts[error === "" ? "good" : "bad"] += 1;
        if (error !== "") throw new Error(error);
        return create(ModelInferResponseSchema);
      },
    };
    health = createTritonHealth(client);
  });
  const look = (): Promise<readonly string[]> => health.findDead(ready, never);

  test("one that answers, or that nobody asks, is left alone", async () => {
    await look();
    counts.good += 1;
    counts.bad += 5;
    await look();
    await look();
    assert.equal(asked, 0);
  });

  test("one that answered nothing but errors is asked, and known to be dead by Triton's words", async () => {
    await look();
    counts.bad += 1;
    words = [dead];
    assert.deepEqual(await look(), ["m"]);
  });

  test("Triton may notice late: a suspect is asked at the next looks too, though nobody asks for it meanwhile", async () => {
    counts.bad += 1;
    words = ["the connection was closed", "busy", dead];
    assert.deepEqual(await look(), []);
    assert.deepEqual(await look(), []);
    assert.deepEqual(await look(), ["m"]);
  });

  test("one that refuses zeros is not asked for ever: what it refused is no news", async () => {
    counts.bad += 1;
    words = ["zeros are refused"];
    for (let n = 0; n < 20; n++) assert.deepEqual(await look(), []);
    assert.equal(asked, 4);
    counts.bad += 1;
    words = [dead];
    assert.deepEqual(await look(), ["m"]);
  });

  test("one that answers zeros was only asked wrong things", async () => {
    counts.bad += 3;
    await look();
    await look();
    assert.equal(asked, 1);
  });
});

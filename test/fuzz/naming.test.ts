// Which model a request is for: the scripts in Envoy, the gateway and a model server must read the same out of every request,
// or who may call one model could reach another. The scripts run in LuaJIT on generated requests; what the model server
// understands is read with a Protobuf library and JSON.parse; the gateway's own reading is its own code.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { z } from "zod";
import { parseModelName } from "#core/model.ts";
import { parseMiss } from "#gateway/extproc/request.ts";
import { readStrictly } from "#platform/strictmessage.ts";
import { ModelInferRequestSchema } from "#proto/gen/inference/open_inference_pb.ts";
import { frameOf } from "../harness/grpc.ts";
import { type LuaCase, type LuaResult, runScripts } from "./lua.ts";

const runs = 50_000;
const seed = Number(process.env["FUZZ_SEED"] ?? 20_261_126);
const grpcPath = "/inference.GRPCInferenceService/ModelInfer";

interface Named {
  readonly name: string;
  readonly case: LuaCase;
}

/** Kept in the repository: each was a crash or a disagreement, or is the kind of thing that could be one. */
const corpus = z
  .array(
    z.object({
      name: z.string(),
      script: z.enum(["http", "grpc"]),
      headers: z.record(z.string(), z.string()),
      body: z.string().describe("Hex over gRPC, text over HTTP."),
      slot: z.string().optional(),
    }),
  )
  .parse(JSON.parse(readFileSync(new URL("corpus/naming.json", import.meta.url), "utf8")))
  .map(
    ({ name, body, ...rest }): Named => ({
      name,
      case: { ...rest, body: Buffer.from(body, rest.script === "grpc" ? "hex" : "utf8") },
    }),
  );

const modelName = fc.oneof(
  fc.constantFrom(
    "iris",
    "a",
    "iris~1",
    "..",
    "",
    "../b",
    "~set-0-s0",
    "a/b",
    "Größe",
    "a".repeat(253),
    "a".repeat(254),
    "x\u0000",
    "/server",
  ),
  fc.stringMatching(/^[A-Za-z0-9._-]{1,40}$/),
  fc.string({ maxLength: 12 }),
);
const slot = fc.option(fc.constantFrom("0", "1", "15"), { nil: undefined });

// --- gRPC messages, byte by byte.

/** `more`: bytes that say nothing, or what does not fit: a varint may be longer than it need be, or than it may be. */
function varint(value: bigint, more = 0): number[] {
  const bytes: number[] = [];
  let rest = value;
  do {
    bytes.push(Number(rest % 128n) + 128);
    rest /= 128n;
  } while (rest > 0n);
  for (let at = 0; at < more; at++) bytes.push(128);
  const last = bytes.length - 1;
  bytes[last] = (bytes[last] ?? 0) - 128;
  return bytes;
}

const more = fc.oneof({ weight: 8, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(10) });
/** Whole multiples of 2^32 and 2^64 are lost where a key is kept in fewer bits. */
const high = fc.oneof(
  { weight: 12, arbitrary: fc.constant(0n) },
  fc.constantFrom(2n ** 32n, 2n ** 35n, 2n ** 53n, 2n ** 63n, 2n ** 64n, 2n ** 69n),
);
const text = fc.tuple(modelName, more, more, high).map(([name, a, b, add]) => {
  const bytes = [...Buffer.from(name)];
  return [...varint(10n + add, a), ...varint(BigInt(bytes.length), b), ...bytes];
});
const field = fc.oneof(
  { weight: 6, arbitrary: text },
  {
    weight: 4,
    arbitrary: fc
      .tuple(fc.constantFrom(2, 3, 4, 5, 6, 7, 15, 16, 2047, 536_870_911), fc.uint8Array({ maxLength: 40 }), more, high)
      .map(([number, bytes, extra, add]) => [
        ...varint(BigInt(number) * 8n + 2n + add, extra),
        ...varint(BigInt(bytes.length)),
        ...bytes,
      ]),
  },
  fc
    .tuple(fc.nat(20), fc.bigInt(0n, 2n ** 70n), more)
    .map(([number, value, extra]) => [...varint(BigInt(number) * 8n), ...varint(value, extra)]),
  fc
    .tuple(fc.nat(20), fc.constantFrom(1, 5))
    .map(([number, wire]) => [...varint(BigInt(number * 8 + wire)), ...Array<number>(wire === 1 ? 8 : 4).fill(7)]),
  fc.tuple(fc.nat(3), fc.constantFrom(3, 4, 6, 7)).map(([number, wire]) => varint(BigInt(number * 8 + wire))),
  // A length that is not there.
  fc.tuple(fc.nat(3), fc.bigInt(0n, 2n ** 66n)).map(([number, length]) => [...varint(BigInt(number * 8 + 2)), ...varint(length)]),
  fc.uint8Array({ maxLength: 12 }).map((bytes) => [...bytes]),
);
const frame = fc.oneof(
  { weight: 10, arbitrary: fc.constant({}) },
  fc.record({ length: fc.nat(300) }),
  fc.record({ flag: fc.constantFrom(1, 2, 255) }),
);
const filler = fc.oneof({ weight: 9, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.integer({ min: 400, max: 700 }) });
const headerName = fc.oneof(
  fc.constantFrom("iris", "other", "a".repeat(254), "a b", "~x", ""),
  fc.stringMatching(/^[\x20-\x7e]{0,20}$/),
);
const idHeaders = fc.oneof(
  { weight: 6, arbitrary: fc.constant({}) },
  fc.record(
    {
      "mm-model-id": headerName,
      "mm-vmodel-id": headerName,
      "mm-model-id-bin": headerName.map((name) => Buffer.from(name).toString("base64")),
      "mm-vmodel-id-bin": headerName,
    },
    { requiredKeys: [] },
  ),
);
const grpcCase = fc
  .record({ fields: fc.array(field, { maxLength: 6 }), frame, filler, headers: idHeaders, slot })
  .map((given): LuaCase => {
    // A long field before the others: names are read through windows.
    const front =
      given.filler === 0 ? [] : [...varint(42n), ...varint(BigInt(given.filler)), ...Array<number>(given.filler).fill(65)];
    const headers = { ":path": grpcPath, "content-type": "application/grpc", ...given.headers };
    return {
      script: "grpc",
      headers,
      body: frameOf(Buffer.from([...front, ...given.fields.flat()]), given.frame),
      slot: given.slot,
    };
  });

// --- HTTP: paths, and JSON bodies of OpenAI-style calls.

const jsonText = fc.oneof(
  { weight: 4, arbitrary: modelName.map((name) => JSON.stringify(name)) },
  fc.constantFrom('"\\u0069ris"', '"iris\\', "1", "null", "[]", '{"model":"in"}', '"a\\"b"', '"', '"a\u0000b"', "true"),
);
const memberKey = fc.oneof(
  { weight: 4, arbitrary: fc.constant('"model"') },
  fc.constantFrom('"messages"', '"mod\\u0065l"', '"Model"', '"model "', '"a\\"model"', '"', "model", '"\\\\"', '"__proto__"'),
);
const space = fc.constantFrom("", " ", "\n\t", "\r", "\v", "\u00a0", "/**/");
const jsonValue: fc.Arbitrary<string> = fc.oneof(
  jsonText,
  fc.json({ maxDepth: 2 }),
  fc.tuple(memberKey, jsonText).map(([key, value]) => `{${key}:${value}}`),
  fc.constantFrom("{", "}", "]", '"\\', "[[[", '{"a":"}"}', '{"a":"\\"model\\":"}'),
);
const jsonBody = fc
  .tuple(
    space,
    fc.array(fc.tuple(memberKey, space, fc.oneof(jsonText, jsonValue), space), { maxLength: 5 }),
    fc.constantFrom("}", "", "}}", "} x", "]", ",}"),
  )
  .map(([lead, members, end]) => `${lead}{${members.map(([key, a, value, b]) => `${key}${a}:${b}${value}`).join(",")}${end}`);
const soundBody = fc
  .record({ model: fc.oneof(modelName, fc.anything()), messages: fc.jsonValue({ maxDepth: 3 }), stream: fc.boolean() })
  .map((value) => JSON.stringify(value) ?? "");
const openaiPath = fc.constantFrom(
  "/v1/chat/completions",
  "/v1/completions",
  "/v1/embeddings",
  "/openai/v1/chat/completions",
  "/v1/chat/completions?a=1",
);
const segment = fc.oneof(
  modelName.map((name) => encodeURI(name)),
  fc.stringMatching(/^[A-Za-z0-9._~:@!$&'()*+,;=%-]{0,20}$/),
);
const modelPath = fc
  .tuple(
    fc.constantFrom("/v1/models/", "/v2/models/", "/v2//models/", "/openai/models/", "/V2/models/"),
    segment,
    fc.constantFrom(
      "",
      ":predict",
      "/:predict",
      ":explain",
      "/infer",
      "/ready",
      "/versions/1/infer",
      "/versions/a:b",
      ":",
      "/",
      "/..",
      "/x",
      "/generate",
    ),
    fc.oneof(
      fc.constantFrom("", "?", "?a=1", "?/infer", "?a/b:predict", "#x"),
      fc.string({ maxLength: 6 }).map((query) => `?${encodeURI(query)}`),
    ),
  )
  .map((all) => all.join(""));
const httpCase = fc
  .record({
    path: fc.oneof({ weight: 3, arbitrary: openaiPath }, { weight: 2, arbitrary: modelPath }, fc.webPath()),
    method: fc.constantFrom("POST", "POST", "GET"),
    body: fc.oneof({ weight: 4, arbitrary: jsonBody }, { weight: 3, arbitrary: soundBody }, fc.string({ maxLength: 30 })),
    slot,
  })
  .map(
    ({ path, method, body, slot: of }): LuaCase => ({
      script: "http",
      headers: { ":path": path, ":method": method, "content-type": "application/json" },
      body: Buffer.from(body),
      slot: of,
    }),
  );

// --- What must hold.

/** As a model server reads it: the last one counts. Undefined: it cannot be read. */
function understood(framed: Uint8Array): { readonly name: string; readonly rest: string } | undefined {
  const { length } = framed;
  const view = new DataView(framed.buffer, framed.byteOffset, length);
  if (length < 5 || framed[0] !== 0 || view.getUint32(1) !== length - 5) return undefined;
  try {
    const { modelName: name, ...rest } = readStrictly(ModelInferRequestSchema, Buffer.from(framed.subarray(5)));
    return {
      name,
      rest: JSON.stringify(rest, (_, value: unknown) =>
        typeof value === "bigint" ? `${value}n` : value instanceof Uint8Array ? [...value] : value,
      ),
    };
  } catch {
    return undefined;
  }
}

function isName(name: string): boolean {
  return parseModelName(name).kind === "ok";
}

function suffix(of: string | undefined): string {
  return of === undefined || of === "0" ? "" : `~${of}`;
}

function checkGrpc(given: LuaCase, { headers, body }: LuaResult): void {
  const named = headers["x-warm-model"];
  const [before, after] = [understood(given.body), understood(body)];
  const gateway = parseMiss(new Map(Object.entries(headers)), []);
  if (named === undefined) {
    assert.deepEqual(body, Buffer.from(given.body), "a message without a name is left alone");
    if (gateway.kind === "infer") assert.fail(`the gateway reads ${gateway.model} where Envoy reads nothing`);
    return;
  }
  assert.ok(isName(named), `${named} is a name`);
  assert.ok(gateway.kind === "infer" && gateway.model === named, "the gateway reads the same");
  // What no library can read no model server answers.
  if (after === undefined) return;
  assert.equal(after.name, `${named}${suffix(given.slot)}`, "the model server reads the same");
  if (before !== undefined) assert.equal(after.rest, before.rest, "nothing else of the message changes");
  const byHeader = Object.keys(given.headers).some((name) => name.startsWith("mm-"));
  if (before !== undefined && !byHeader) assert.equal(named, before.name);
}

function parsedModel(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) && Object.hasOwn(value, "model")
      ? (value as { model: unknown }).model
      : undefined;
  } catch {
    return undefined;
  }
}

/** Envoy does so before any filter, where it can. */
function unescaped(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}

function parses(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

function checkHttp(given: LuaCase, { headers, body }: LuaResult): void {
  const [sent, now] = [Buffer.from(given.body).toString(), body.toString()];
  const [path = "", before = ""] = [headers[":path"], given.headers[":path"]];
  const gateway = parseMiss(new Map(Object.entries(headers)), []);
  const named = headers["x-warm-model"];
  if (named === undefined) {
    assert.equal(now, sent, "a body without a name is left alone");
    if (gateway.kind !== "infer") return;
    // What the path says to whoever reads it: the third segment, up to a verb or a query.
    const said = /^\/v[12]\/models\/([^/:?]*)/.exec(before)?.[1];
    assert.equal(gateway.model, unescaped(said ?? ""), `${before} names ${said}`);
    // The scope's key.
    if (headers["x-warm-bad-name"] === undefined && !/[?%]/.test(path))
      assert.equal(path.split("/")[3], gateway.model, `the key of ${path}`);
    return;
  }
  assert.ok(isName(named));
  assert.ok(gateway.kind === "infer" && gateway.model === named, `the gateway reads ${JSON.stringify(gateway)}`);
  assert.equal(path.split("/")[3], named, "the scope's key");
  if (!parses(sent)) return;
  assert.equal(parsedModel(sent), named, "the model server reads the same");
  assert.equal(parsedModel(now), `${named}${suffix(given.slot)}`);
  const rest = (text: string): unknown => ({ ...(JSON.parse(text) as object), model: undefined });
  assert.deepEqual(rest(now), rest(sent));
}

/** A name that is there, in a request beyond doubt, is found. */
function checkFound(given: LuaCase, { headers }: LuaResult): boolean {
  if (given.script === "grpc") {
    const read = understood(given.body);
    if (read === undefined || !isName(read.name) || Object.keys(given.headers).some((name) => name.startsWith("mm-")))
      return false;
    return headers["x-warm-model"] === read.name;
  }
  return headers["x-warm-model"] !== undefined;
}

function check(given: LuaCase, result: LuaResult): void {
  assert.ok(result.ok, `the script failed: ${result.body.toString()}`);
  (given.script === "grpc" ? checkGrpc : checkHttp)(given, result);
}

function show({ script, headers, body, slot: of }: LuaCase): string {
  return JSON.stringify({ script, headers, body: Buffer.from(body).toString(script === "grpc" ? "hex" : "utf8"), slot: of });
}

describe("request naming", () => {
  test("every case of the corpus", async () => {
    const results = await runScripts(corpus.map((each) => each.case));
    for (const [at, { name, case: given }] of corpus.entries()) {
      const result = results[at];
      assert.ok(result !== undefined);
      assert.doesNotThrow(() => check(given, result), name);
    }
  });

  for (const [wire, arbitrary] of [
    ["gRPC", grpcCase],
    ["HTTP", httpCase],
  ] as const) {
    test(`${runs} generated requests over ${wire}`, async () => {
      const cases = fc.sample(arbitrary, { numRuns: runs, seed });
      const results = await runScripts(cases);
      const failures: string[] = [];
      let found = 0;
      for (const [at, given] of cases.entries()) {
        const result = results[at];
        assert.ok(result !== undefined);
        found += checkFound(given, result) ? 1 : 0;
        try {
          check(given, result);
        } catch (error) {
          failures.push(
            `${error instanceof Error ? error.message : String(error)}: ${show(given)} -> ${JSON.stringify(result.headers)}`,
          );
        }
      }
      assert.equal(
        failures.length,
        0,
        `${failures.length} disagree (FUZZ_SEED=${seed}):\n${failures
          .toSorted((a, b) => a.length - b.length)
          .slice(0, 8)
          .join("\n")}`,
      );
      // Else nothing was tested.
      assert.ok(found > runs / 100, `${found} of ${runs} have a name that is found`);
    });
  }
});

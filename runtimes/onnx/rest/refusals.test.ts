// What the HTTP face refuses: each in its own words, with the right status, and without harm to the next request.
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { after, before, test } from "node:test";
import { gzipSync } from "node:zlib";
import { addConstantGraph, addSubGraph, buildGraph, buildNode } from "../testing/graphs.ts";
import { type Ask, openTestServer, type TestServer } from "../testing/server.ts";

const limit = 256 * 1024;
let server: TestServer;

before(async () => {
  server = await openTestServer(limit);
  await server.load("addsub", addSubGraph());
  await server.load("plus~2", addConstantGraph(1), { version: "7" });
  await server.load(
    "anyrank",
    buildGraph({
      inputs: [{ name: "x", datatype: "FP32" }],
      outputs: [{ name: "y", datatype: "FP32" }],
      nodes: [buildNode("Identity", ["x"], ["y"])],
    }),
  );
  await server.load(
    "sum",
    buildGraph({
      inputs: [{ name: "x", datatype: "FP32", shape: ["n"] }],
      outputs: [{ name: "y", datatype: "FP32", shape: [1] }],
      nodes: [buildNode("ReduceSum", ["x"], ["y"])],
    }),
  );
});
after(async () => server[Symbol.asyncDispose]());

const row = Array.from({ length: 16 }, (_, at) => at);
const input = (name: string, more: object = {}): object => ({ name, datatype: "INT32", shape: [1, 16], data: row, ...more });
const both = { inputs: [input("a"), input("b")] };
const infer = "/v2/models/addsub/infer";

const gzipBomb = gzipSync(Buffer.alloc(20 * limit, 32));
const predict = "/v1/models/plus~2:predict";
const refusals: readonly [string, string, Ask, number, RegExp][] = [
  ["a body that is not JSON", infer, { body: "{" }, 400, /not JSON/],
  ["an empty body", infer, { body: "" }, 400, /not JSON/],
  ["no body", infer, { method: "POST" }, 400, /not JSON/],
  ["a body that is no object", infer, { body: "[]" }, 400, /JSON object/],
  ["a body that is not UTF-8", infer, { body: Uint8Array.of(123, 255, 125) }, 400, /UTF-8/],
  ["nesting without end", infer, { body: `{"inputs":${"[".repeat(100_000)}` }, 400, /not JSON/],
  ["no inputs", infer, { body: {} }, 400, /inputs/],
  ["inputs that are none", infer, { body: { inputs: [1] } }, 400, /object/],
  ["an input without name", infer, { body: { inputs: [{}] } }, 400, /name/],
  ["an input without datatype", infer, { body: { inputs: [{ name: "a" }] } }, 400, /datatype/],
  ["an input without shape", infer, { body: { inputs: [{ name: "a", datatype: "INT32" }] } }, 400, /shape/],
  ["an input without data", infer, { body: { inputs: [input("a", { data: undefined })] } }, 400, /no data/],
  ["a missing input", infer, { body: { inputs: [input("a")] } }, 400, /"b" is missing/],
  ["an unknown input", infer, { body: { inputs: [input("a"), input("b"), input("c")] } }, 400, /no input "c"/],
  [
    "an input called __proto__",
    infer,
    { body: '{"inputs":[{"name":"__proto__","datatype":"INT32","shape":[1],"data":[1]}]}' },
    400,
    /no input/,
  ],
  ["an input given twice", infer, { body: { inputs: [input("a"), input("a")] } }, 400, /twice/],
  ["a wrong datatype", infer, { body: { inputs: [input("a", { datatype: "FP32" }), input("b")] } }, 400, /takes INT32/],
  ["an unknown datatype", infer, { body: { inputs: [input("a", { datatype: "BF16" }), input("b")] } }, 400, /unknown datatype/],
  ["a wrong shape", infer, { body: { inputs: [input("a", { shape: [2, 8] }), input("b")] } }, 400, /takes \[1, 16\]/],
  ["a wrong rank", infer, { body: { inputs: [input("a", { shape: [16] }), input("b")] } }, 400, /takes \[1, 16\]/],
  ["a negative dimension", infer, { body: { inputs: [input("a", { shape: [-1, -16] }), input("b")] } }, 400, /whole numbers/],
  ["a fractional dimension", infer, { body: { inputs: [input("a", { shape: [0.5, 32] }), input("b")] } }, 400, /whole numbers/],
  ["a wrong number of elements", infer, { body: { inputs: [input("a", { data: [1] }), input("b")] } }, 400, /has 1 elements/],
  [
    "a shape beyond memory",
    "/v2/models/anyrank/infer",
    { body: { inputs: [{ name: "x", datatype: "FP32", shape: [2147483647, 2147483647, 0], data: [] }] } },
    400,
    /more than/,
  ],
  [
    "a shape without end",
    "/v2/models/anyrank/infer",
    { body: { inputs: [{ name: "x", datatype: "FP32", shape: Array.from({ length: 99 }, () => 1), data: [1] }] } },
    400,
    /99 dimensions/,
  ],
  ["an unknown output", infer, { body: { ...both, outputs: [{ name: "nope" }] } }, 400, /no output "nope"/],
  ["an output asked for twice", infer, { body: { ...both, outputs: [{ name: "sum" }, { name: "sum" }] } }, 400, /twice/],
  ["an id that is no text", infer, { body: { ...both, id: 7 } }, 400, /id/],
  ["parameters that are none", infer, { body: { ...both, parameters: [] } }, 400, /parameters/],
  [
    "shared memory",
    infer,
    { body: { inputs: [input("a", { parameters: { shared_memory_region: "r" } })] } },
    400,
    /shared memory/,
  ],
  [
    "a header length beyond the body",
    infer,
    { body: both, headers: { "inference-header-content-length": "99999" } },
    400,
    /Content-Length/,
  ],
  [
    "a header length that is none",
    infer,
    { body: both, headers: { "inference-header-content-length": "-1" } },
    400,
    /Content-Length/,
  ],
  [
    "bytes of no input",
    infer,
    { body: `${JSON.stringify(both)}xx`, headers: { "inference-header-content-length": String(JSON.stringify(both).length) } },
    400,
    /belong to no input/,
  ],
  [
    "binary data beyond the body",
    infer,
    { body: { inputs: [input("a", { data: undefined, parameters: { binary_data_size: 64 } })] } },
    400,
    /binary_data_size/,
  ],
  ["a body over the limit", infer, { body: " ".repeat(limit + 1) }, 413, /larger than/],
  ["a body that unpacks over the limit", infer, { body: gzipBomb, headers: { "content-encoding": "gzip" } }, 413, /larger than/],
  ["gzip that is none", infer, { body: "nope", headers: { "content-encoding": "gzip" } }, 400, /Content-Encoding/],
  [
    "gzip cut off",
    infer,
    { body: gzipSync(JSON.stringify(both)).subarray(0, 40), headers: { "content-encoding": "gzip" } },
    400,
    /Content-Encoding/,
  ],
  ["an unknown coding", infer, { body: both, headers: { "content-encoding": "br" } }, 415, /gzip or deflate/],
  ["another medium", infer, { body: both, headers: { "content-type": "image/png" } }, 415, /image\/png/],
  ["an unknown model", "/v2/models/nope/infer", { body: both }, 503, /^Model nope is not loaded on this pod$/],
  ["another slot", "/v2/models/plus/infer", { body: both }, 503, /^Model plus is not loaded on this pod$/],
  ["an unknown version", "/v2/models/addsub/versions/2/infer", { body: both }, 404, /version 2/],
  ["metadata of an unknown model", "/v2/models/nope", {}, 503, /nope/],
  ["readiness of an unknown model", "/v2/models/nope/ready", {}, 503, /nope/],
  ["a name with a slash", "/v2/models/a%2Fb/infer", { body: both }, 503, /a\/b/],
  ["a name of dots", "/v2/models/%2E%2E%2F%2E%2E/ready", {}, 503, /not loaded/],
  ["a name in unicode", `/v2/models/${encodeURIComponent("模型😀")}/ready`, {}, 503, /模型😀/],
  ["a long name", `/v2/models/${"n".repeat(300)}/ready`, {}, 503, /not loaded/],
  ["a name called __proto__", "/v2/models/__proto__/infer", { body: both }, 503, /not loaded/],
  ["a broken escape", "/v2/models/%zz/ready", {}, 400, /url/],
  ["GET on infer", infer, { method: "GET" }, 405, /use POST/],
  ["DELETE on a model", "/v2/models/addsub", { method: "DELETE" }, 405, /use GET/],
  ["loading, which is not here", "/v2/repository/models/addsub/unload", { method: "POST" }, 404, /nothing at/],
  ["an unknown path", "/v3", {}, 404, /nothing at/],
  [
    "V1 of an unknown model",
    "/v1/models/nope:predict",
    { body: { instances: [1] } },
    503,
    /^Model nope is not loaded on this pod$/,
  ],
  ["an unknown V1 method", "/v1/models/plus~2:explain", { body: { instances: [1] } }, 404, /predict only/],
  ["V1 without instances", predict, { body: {} }, 400, /instances/],
  ["V1 with no instance", predict, { body: { instances: [] } }, 400, /empty/],
  ["V1 with ragged rows", predict, { body: { instances: [[1, 2], [3]] } }, 400, /nested data/],
  ["V1 with a wrong width", predict, { body: { instances: [[1, 2, 3]] } }, 400, /takes \[-1, 2\]/],
  ["V1 with a wrong value", predict, { body: { instances: [["a", "b"]] } }, 400, /FP32/],
  ["V1 without an input", predict, { body: { instances: [{ x: [1, 2] }, { z: [1, 2] }] } }, 400, /no value for input "x"/],
  ["V1 with an unknown input", predict, { body: { instances: [{ x: [1, 2], z: 1 }] } }, 400, /no input "z"/],
  ["V1 of bare rows for several inputs", "/v1/models/addsub:predict", { body: { instances: [[1]] } }, 400, /object/],
  ["V1 of a model that sums up its rows", "/v1/models/sum:predict", { body: { instances: [1, 2] } }, 400, /V2/],
];

for (const [name, path, ask, status, message] of refusals) {
  test(`refuses ${name}`, async () => {
    const answer = await server.rest(path, ask);
    const { error } = answer.json as { error: string };
    assert.match(error, message);
    assert.equal(answer.status, status);
    assert.deepEqual(Object.keys(answer.json as object), ["error"]);
    assert.match(String(answer.headers["content-type"]), /^application\/json/);
    const notHere = status === 503;
    assert.equal(answer.headers["x-warm-not-here"], notHere ? "1" : undefined);
    assert.equal(answer.headers["retry-after"], notHere ? "1" : undefined);
    assert.equal((await server.rest(infer, { body: both })).status, 200);
  });
}

/** Sends the head, then the body in parts; `atLast`: it must not be answered before the last one. */
async function sendParts(head: string, parts: readonly string[], atLast: boolean): Promise<string> {
  const socket = connect(server.restPort, "127.0.0.1");
  const answer: string[] = [];
  socket.on("data", (chunk: Buffer) => answer.push(chunk.toString()));
  socket.write(`POST ${infer} HTTP/1.1\r\nhost: a\r\n${head}\r\n\r\n`);
  for (const part of parts) {
    // What would be answered before it would be by now.
    assert.equal((await server.rest(infer, { body: both })).status, 200);
    if (atLast) assert.deepEqual(answer, [], "it was answered before its end");
    await new Promise<void>((resolve, reject) => socket.write(part, (error) => (error ? reject(error) : resolve())));
  }
  while (answer.length === 0) await once(socket, "data");
  socket.destroy();
  return answer.join("");
}

const part = " ".repeat(limit);
const chunk = `${limit.toString(16)}\r\n${part}\r\n`;

for (const [what, head, parts] of [
  ["a length", `content-length: ${3 * limit}`, [part, part, part]],
  ["chunks", "transfer-encoding: chunked", [chunk, chunk, chunk, "0\r\n\r\n"]],
] as const) {
  test(`a body with ${what} that is too large is read before it is refused`, async () => {
    const answer = await sendParts(head, parts, true);
    assert.match(answer, /^HTTP\/1.1 413 [^]*larger than/);
    assert.doesNotMatch(answer, /connection: close/i);
  });
}

test("one that is far too large is refused at once", async () => {
  for (const [head, parts] of [
    [`content-length: ${5 * limit}`, [part]],
    ["transfer-encoding: chunked", Array(7).fill(chunk)],
  ] as [string, string[]][]) {
    const answer = await sendParts(head, parts, false);
    assert.match(answer, /^HTTP\/1.1 413 [^]*larger than/);
  }
});

test("a model that fails on what it is given refuses the request", async () => {
  await server.load(
    "gather",
    buildGraph({
      inputs: [
        { name: "x", datatype: "FP32", shape: ["n"] },
        { name: "i", datatype: "INT64", shape: ["m"] },
      ],
      outputs: [{ name: "y", datatype: "FP32", shape: ["m"] }],
      nodes: [buildNode("Gather", ["x", "i"], ["y"])],
    }),
  );
  const inputs = [
    { name: "x", datatype: "FP32", shape: [1], data: [1] },
    { name: "i", datatype: "INT64", shape: [1], data: [9] },
  ];
  const answer = await server.rest("/v2/models/gather/infer", { body: { inputs } });
  assert.equal(answer.status, 400);
  assert.match((answer.json as { error: string }).error, /cannot be run/);
});

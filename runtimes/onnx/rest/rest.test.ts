// The HTTP contract, asked over real connections of real models.
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { after, before, test } from "node:test";
import { deflateSync, gunzipSync, gzipSync } from "node:zlib";
import { datatypes } from "../datatypes.ts";
import {
  addConstantGraph,
  addSubGraph,
  buildGraph,
  buildNode,
  type GraphDatatype,
  identityGraph,
  onnxTypes,
  perceptronGraph,
} from "../testing/graphs.ts";
import { openTestServer, type TestServer } from "../testing/server.ts";

let server: TestServer;

before(async () => {
  server = await openTestServer();
  await server.load("addsub", addSubGraph());
  await server.load("plus~2", addConstantGraph(1), { version: "7" });
  await server.load("mlp", perceptronGraph([4, 8, 3]));
  for (const { name } of datatypes) await server.load(`id-${name}`, identityGraph(name));
  await server.load(
    "anyrank",
    buildGraph({
      inputs: [{ name: "x", datatype: "FP32" }],
      outputs: [{ name: "y", datatype: "FP32" }],
      nodes: [buildNode("Identity", ["x"], ["y"])],
    }),
  );
});
after(async () => server[Symbol.asyncDispose]());

const row = Array.from({ length: 16 }, (_, at) => at);
const input = (name: string, more: object = {}): object => ({ name, datatype: "INT32", shape: [1, 16], data: row, ...more });
const both = { inputs: [input("a"), input("b")] };
const infer = "/v2/models/addsub/infer";

test("server: live, ready, metadata", async () => {
  assert.deepEqual((await server.rest("/v2/health/live")).json, { live: true });
  assert.deepEqual((await server.rest("/v2/health/ready")).json, { ready: true });
  assert.deepEqual((await server.rest("/v2")).json, {
    name: "warmpath-onnx",
    version: "0.1.0",
    extensions: ["binary_tensor_data"],
  });
  assert.equal((await server.rest("/v2/health/live", { method: "HEAD" })).status, 200);
});

test("model: metadata has the real names, datatypes and shapes, and the public name", async () => {
  const expected = {
    name: "plus",
    versions: ["7"],
    platform: "onnxruntime_onnx",
    inputs: [{ name: "x", datatype: "FP32", shape: [-1, 2] }],
    outputs: [{ name: "y", datatype: "FP32", shape: [-1, 2] }],
  };
  assert.deepEqual((await server.rest("/v2/models/plus~2")).json, expected);
  assert.deepEqual((await server.rest("/v2/models/plus~2/versions/7")).json, expected);
  assert.deepEqual((await server.rest("/v2/models/plus~2/ready")).json, { name: "plus", ready: true });
  assert.deepEqual((await server.rest("/v1/models/plus~2")).json, { name: "plus", ready: true });
});

test("infer: answers carry the public name, the version and the id; parameters are taken", async () => {
  const body = {
    id: "é7",
    parameters: { sequence_id: 1 },
    inputs: [{ name: "x", datatype: "FP32", shape: [1, 2], data: [[1, 2]], parameters: { any: true } }],
    outputs: [{ name: "y" }],
    more: { __proto__: { polluted: true } },
  };
  const expected = {
    model_name: "plus",
    model_version: "7",
    id: "é7",
    outputs: [{ name: "y", datatype: "FP32", shape: [1, 2], data: [2, 3] }],
  };
  assert.deepEqual((await server.rest("/v2/models/plus~2/infer", { body })).json, expected);
  assert.deepEqual((await server.rest("/v2/models/plus~2/versions/7/infer", { body })).json, expected);
});

test("infer: outputs are selected by name", async () => {
  const answer = await server.rest(infer, { body: { ...both, outputs: [{ name: "difference" }] } });
  assert.deepEqual(answer.json, {
    model_name: "addsub",
    model_version: "1",
    outputs: [{ name: "difference", datatype: "INT32", shape: [1, 16], data: row.map(() => 0) }],
  });
});

const samples: Readonly<Record<GraphDatatype, string>> = {
  BOOL: "true,false",
  UINT8: "0,255",
  INT8: "-128,127",
  UINT16: "0,65535",
  INT16: "-32768,32767",
  UINT32: "0,4294967295",
  INT32: "-2147483648,2147483647",
  UINT64: "0,18446744073709551615",
  INT64: "-9223372036854775808,9223372036854775807,9007199254740993",
  FP16: '1.5,-65504,"NaN","Infinity"',
  FP32: '0.5,"NaN","-Infinity",1.401298464324817e-45',
  FP64: '0.1,1.7976931348623157e+308,"Infinity"',
  BYTES: '"a","","é😀\\n"',
};

for (const datatype of Object.keys(onnxTypes) as GraphDatatype[]) {
  test(`infer: ${datatype} comes back as it went, as JSON and as bytes`, async () => {
    const data = samples[datatype];
    const count = JSON.parse(`[${data}]`).length as number;
    const path = `/v2/models/id-${datatype}/infer`;
    const head = `{"model_name":"id-${datatype}","model_version":"1","outputs":[{"name":"y","datatype":"${datatype}","shape":[${count}],`;
    const body = `{"inputs":[{"name":"x","datatype":"${datatype}","shape":[${count}],"data":[${data}]}]}`;
    assert.equal((await server.rest(path, { body })).bytes.toString(), `${head}"data":[${data}]}]}`);

    const binary = await server.rest(path, { body: body.replace("{", '{"parameters":{"binary_data_output":true},') });
    const { json, raw } = split(binary.bytes, binary.headers["inference-header-content-length"]);
    assert.equal(json, `${head}"parameters":{"binary_data_size":${raw.length}}}]}`);
    assert.equal(binary.headers["content-type"], "application/octet-stream");

    const request = `{"inputs":[{"name":"x","datatype":"${datatype}","shape":[${count}],"parameters":{"binary_data_size":${raw.length}}}]}`;
    const again = await server.rest(path, {
      body: Buffer.concat([Buffer.from(request), raw]),
      headers: { "inference-header-content-length": String(Buffer.byteLength(request)) },
    });
    assert.equal(again.bytes.toString(), `${head}"data":[${data}]}]}`);
  });
}

function split(bytes: Buffer, header: string | string[] | undefined): { json: string; raw: Buffer } {
  const length = Number(header);
  return { json: bytes.subarray(0, length).toString(), raw: bytes.subarray(length) };
}

test("infer: one output as bytes beside one as JSON", async () => {
  const outputs = [{ name: "sum", parameters: { binary_data: true } }, { name: "difference" }];
  const answer = await server.rest(infer, { body: { ...both, outputs } });
  const { json, raw } = split(answer.bytes, answer.headers["inference-header-content-length"]);
  assert.equal(raw.readInt32LE(4), 2);
  assert.equal(raw.length, 64);
  assert.match(json, /"difference","datatype":"INT32","shape":\[1,16\],"data":\[0,/);
});

test("infer: an empty batch, an unknown rank and a scalar are shapes too", async () => {
  const ask = async (model: string, shape: number[], data: number[]): Promise<unknown> =>
    (await server.rest(`/v2/models/${model}/infer`, { body: { inputs: [{ name: "x", datatype: "FP32", shape, data }] } })).json;
  const answer = (model: string, shape: number[], data: number[]): object => ({
    model_name: model,
    model_version: "1",
    outputs: [{ name: "y", datatype: "FP32", shape, data }],
  });
  assert.deepEqual(await ask("mlp", [0, 4], []), answer("mlp", [0, 3], []));
  assert.deepEqual(await ask("anyrank", [2, 1, 1], [1, 2]), answer("anyrank", [2, 1, 1], [1, 2]));
  assert.deepEqual(await ask("anyrank", [], [1]), answer("anyrank", [], [1]));
});

test("bodies: gzip and deflate are taken; large answers are compressed when asked", async () => {
  const body = JSON.stringify(both);
  for (const [encoding, bytes] of [
    ["gzip", gzipSync(body)],
    ["deflate", deflateSync(body)],
    ["identity", Buffer.from(body)],
  ] as const) {
    assert.equal((await server.rest(infer, { body: bytes, headers: { "content-encoding": encoding } })).status, 200);
  }
  const large = { inputs: [{ name: "x", datatype: "FP32", shape: [1_000], data: Array.from({ length: 1_000 }, () => 0.5) }] };
  const answer = await server.rest("/v2/models/id-FP32/infer", { body: large, headers: { "accept-encoding": "br, gzip;q=0.5" } });
  assert.equal(answer.headers["content-encoding"], "gzip");
  assert.match(gunzipSync(answer.bytes).toString(), /^\{"model_name":"id-FP32"/);
  const refused = await server.rest("/v2/models/id-FP32/infer", { body: large, headers: { "accept-encoding": "gzip;q=0" } });
  assert.equal(refused.headers["content-encoding"], undefined);
  const small = await server.rest(infer, { body, headers: { "accept-encoding": "gzip" } });
  assert.equal(small.headers["content-encoding"], undefined);
});

test("V1: rows in, rows out", async () => {
  const plus = await server.rest("/v1/models/plus~2:predict", {
    body: {
      instances: [
        [1, 2],
        [3, 4],
      ],
    },
  });
  assert.deepEqual(plus.json, {
    predictions: [
      [2, 3],
      [4, 5],
    ],
  });
  const named = await server.rest("/v1/models/plus~2:predict", { body: { instances: [{ x: [1, 2] }] } });
  assert.deepEqual(named.json, { predictions: [[2, 3]] });
  const scalars = await server.rest("/v1/models/id-INT64:predict", { body: '{"instances":[1,9007199254740993]}' });
  assert.equal(scalars.bytes.toString(), '{"predictions":[1,9007199254740993]}');
  const texts = await server.rest("/v1/models/id-BYTES:predict", { body: { instances: ["a", "b"] } });
  assert.deepEqual(texts.json, { predictions: ["a", "b"] });
});

test("V1: several inputs are objects, several outputs too", async () => {
  await server.load(
    "pair",
    buildGraph({
      inputs: [
        { name: "a", datatype: "INT32", shape: ["n"] },
        { name: "b", datatype: "INT32", shape: ["n"] },
      ],
      outputs: [
        { name: "sum", datatype: "INT32", shape: ["n"] },
        { name: "difference", datatype: "INT32", shape: ["n"] },
      ],
      nodes: [buildNode("Add", ["a", "b"], ["sum"]), buildNode("Sub", ["a", "b"], ["difference"])],
    }),
  );
  const answer = await server.rest("/v1/models/pair:predict", {
    body: {
      instances: [
        { a: 5, b: 3 },
        { a: 1, b: 1 },
      ],
    },
  });
  assert.deepEqual(answer.json, {
    predictions: [
      { sum: 8, difference: 2 },
      { sum: 2, difference: 0 },
    ],
  });
});

test("a client that never ends its request does not hold up the end", async () => {
  const ending = await openTestServer();
  const socket = connect(ending.restPort, "127.0.0.1");
  await once(socket, "connect");
  socket.write("POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n");
  await once(socket, "data");
  const startMs = performance.now();
  await Promise.all([ending[Symbol.asyncDispose](), once(socket, "close")]);
  assert.ok(performance.now() - startMs < 60_000);
});

test("what is not HTTP gets an answer in JSON", async () => {
  const socket = connect(server.restPort, "127.0.0.1");
  socket.write("nonsense\r\n\r\n");
  const [answer] = (await once(socket, "data")) as [Buffer];
  assert.match(answer.toString(), /^HTTP\/1\.1 400 .*\{"error":"[^"]+"\}$/s);
  socket.destroy();
});

test("headers beyond the limit are refused as such", async () => {
  const answer = await server.rest("/v2", { headers: { "x-large": "a".repeat(50_000) } });
  assert.deepEqual([answer.status, answer.json], [431, { error: "the headers are too large" }]);
});

// Models whose artefacts are broken, missing or where they must not be, and registrations that are none: each is refused as what
// it is, at once when asked again, and nothing else is disturbed.
import assert from "node:assert/strict";
import { copyFile, mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";
import { create, toBinary } from "@bufbuild/protobuf";
import { ModelInferRequestSchema } from "#proto/gen/inference/open_inference_pb.ts";
import type { TestFleet } from "../harness/fleet.ts";
import { frameOf, type GrpcClient, inferencePath } from "../harness/grpc.ts";
import type { RestClient } from "../harness/http.ts";
import { openTriedFleet, type TriedFleet } from "../harness/undisturbed.ts";

const hot = "iris-t0001";
let tried: TriedFleet;
let fleet: TestFleet;
let rest: RestClient;
let grpc: GrpcClient;

before(async () => {
  tried = await openTriedFleet(hot);
  ({ fleet, rest, grpc } = tried);
});
after(() => tried?.[Symbol.asyncDispose]());

async function assertUndisturbed(): Promise<void> {
  await tried.assertUndisturbed();
}

const asked = { inputs: [{ name: "x", shape: [1, 4], datatype: "FP32", data: [5.1, 3.5, 1.4, 0.2] }] };

function askedOf(modelName: string): Uint8Array {
  const fp32Contents = [5.1, 3.5, 1.4, 0.2];
  const inputs = [{ name: "x", datatype: "FP32", shape: [1n, 4n], contents: { fp32Contents } }];
  return frameOf(toBinary(ModelInferRequestSchema, create(ModelInferRequestSchema, { modelName, inputs })));
}

const onnx = (name: string): string => join(fleet.libraryFolder, "models", "iris", `${name}.onnx`);
const uriOf = (file: string): string => pathToFileURL(join(fleet.libraryFolder, file)).href;

const badModels: readonly (readonly [string, string, () => Promise<string>, RegExp])[] = [
  [
    "text instead of ONNX",
    "no-onnx",
    async () => (await writeFile(join(fleet.libraryFolder, "text.onnx"), "hello\n".repeat(100)), uriOf("text.onnx")),
    /./,
  ],
  [
    "an empty file",
    "empty",
    async () => (await writeFile(join(fleet.libraryFolder, "empty.onnx"), ""), uriOf("empty.onnx")),
    /./,
  ],
  [
    "a truncated file",
    "truncated",
    async () => {
      const bytes = await readFile(onnx(hot));
      await writeFile(join(fleet.libraryFolder, "truncated.onnx"), bytes.subarray(0, bytes.length / 2));
      return uriOf("truncated.onnx");
    },
    /./,
  ],
  ["no file", "missing", async () => uriOf("missing.onnx"), /no artefact/],
  ["a directory", "directory", async () => (await mkdir(join(fleet.libraryFolder, "folder.onnx")), uriOf("folder.onnx")), /./],
  ["a file outside the storage root", "outside", async () => "file:///etc/hostname", /outside/],
  [
    "a way out of the storage root",
    "way-out",
    async () => `${pathToFileURL(fleet.libraryFolder).href}/../../../../../etc/hostname`,
    /outside|no artefact/,
  ],
  [
    "a link out of the storage root",
    "link-out",
    async () => {
      await copyFile(onnx(hot), join(tried.folder, "outside.onnx"));
      await symlink(join(tried.folder, "outside.onnx"), join(fleet.libraryFolder, "link.onnx"));
      return uriOf("link.onnx");
    },
    /outside/,
  ],
  ["a storage that this pod knows nothing of", "far-away", async () => "gopher://example.com/model.onnx", /gopher/],
  ["an address on another host", "other-host", async () => "file://example.com/model.onnx", /./],
];

for (const [what, name, place, reason] of badModels) {
  test(`a registered model that is ${what} is refused as such, and at once when asked again`, async () => {
    await fleet.register(name, await place());
    for (const again of [false, true]) {
      const overRest = await rest.ask(`/v2/models/${name}/infer`, { method: "POST", body: asked });
      const seen = `${again ? "again: " : ""}${overRest.status} ${JSON.stringify(overRest.headers)} ${overRest.text}`;
      assert.equal(overRest.status, 424, seen);
      assert.deepEqual(Object.keys(overRest.json as object), ["error"], seen);
      assert.match((overRest.json as { error: string }).error, reason, seen);
      assert.ok(overRest.tookMs < 3_000, `it took ${overRest.tookMs} ms: ${seen}`);
      if (again) assert.ok(Number(overRest.headers["retry-after"]) > 0, seen);
    }
    const overGrpc = await grpc.call(inferencePath("ModelInfer"), askedOf(name));
    assert.equal(overGrpc.status, 9, `${overGrpc.status} ${overGrpc.message}`);
    assert.match(overGrpc.message, reason);
    assert.ok(overGrpc.tookMs < 1_000, `it took ${overGrpc.tookMs} ms`);
    await assertUndisturbed();
  });
}

test("the management API refuses bad registrations", async () => {
  for (const [name, body, status] of [
    ["good-name", { format: "onnx" }, 400],
    ["good-name", { format: "onnx", storageUri: "no scheme" }, 400],
    ["good-name", { storageUri: "file:///a" }, 400],
    ["good-name", [], 400],
    ["a%2Fb", { format: "onnx", storageUri: "file:///a" }, 400],
    ["..%2f", { format: "onnx", storageUri: "file:///a" }, 400],
    [encodeURIComponent("模型"), { format: "onnx", storageUri: "file:///a" }, 400],
    ["n".repeat(254), { format: "onnx", storageUri: "file:///a" }, 400],
    [hot, { format: "onnx", storageUri: "file:///another" }, 409],
  ] as const) {
    const answer = await fleet.manage("PUT", `/api/v1/models/${name}`, body);
    const seen = `${name} ${JSON.stringify(body)}: ${answer.status} ${answer.text}`;
    assert.equal(answer.status, status, seen);
    assert.equal(typeof (answer.json as { error: string }).error, "string", seen);
  }
  await assertUndisturbed();
});

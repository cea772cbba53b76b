// Artefacts in a real registry, which wants a user and password.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import { pack } from "tar-stream";
import { openDockerRegistry, type StorageServer } from "#test/storage/servers.ts";
import type { Artefact } from "../../drivers/driver.ts";
import { openPullBench, type PullBench } from "../testing/bench.ts";

// The user `tester` with the password `s3cret`.
const htpasswd = "tester:$2b$05$uhkVtlVlIZbIj/zG2YQgLem6YDsjGiytpLKaNLRecOUHnA634eovC\n";
const authorization = `Basic ${Buffer.from("tester:s3cret").toString("base64")}`;
const gzipLayer = "application/vnd.oci.image.layer.v1.tar+gzip";

const digestOf = (bytes: Buffer): string => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;

async function tarOf(entries: Readonly<Record<string, string>>): Promise<Buffer> {
  const tar = pack();
  for (const [name, content] of Object.entries(entries)) tar.entry({ name }, content);
  tar.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of tar) chunks.push(chunk as Buffer);
  return gzipSync(Buffer.concat(chunks));
}

describe("the store of registries", { timeout: 200_000 }, () => {
  const never = new AbortController().signal;
  let server: StorageServer;
  let bench: PullBench;
  let registry = "";

  const push = async (
    repository: string,
    tag: string,
    layers: readonly { bytes: Buffer; mediaType: string; title?: string }[],
  ): Promise<string> => {
    const call = async (path: string, method: string, body?: Buffer, type = "application/octet-stream"): Promise<Response> => {
      const answer = await fetch(path.startsWith("http") ? path : `${server.url}${path}`, {
        method,
        headers: { authorization, "content-type": type },
        ...(body === undefined ? {} : { body: new Uint8Array(body) }),
      });
      assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${await answer.clone().text()}`);
      return answer;
    };
    const put = async (bytes: Buffer): Promise<void> => {
      const begun = await call(`/v2/${repository}/blobs/uploads/`, "POST");
      const location = new URL(begun.headers.get("location") ?? "", server.url);
      location.searchParams.set("digest", digestOf(bytes));
      await call(location.href, "PUT", bytes);
    };
    const config = Buffer.from("{}");
    await put(config);
    for (const { bytes } of layers) await put(bytes);
    const manifest = Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: "application/vnd.oci.image.manifest.v1+json",
        config: { mediaType: "application/vnd.oci.image.config.v1+json", digest: digestOf(config), size: config.length },
        layers: layers.map(({ bytes, mediaType, title }) => ({
          mediaType,
          digest: digestOf(bytes),
          size: bytes.length,
          ...(title === undefined ? {} : { annotations: { "org.opencontainers.image.title": title } }),
        })),
      }),
    );
    await call(`/v2/${repository}/manifests/${tag}`, "PUT", manifest, "application/vnd.oci.image.manifest.v1+json");
    return digestOf(manifest);
  };
  const attempt = (artefact: Artefact): ReturnType<PullBench["puller"]["pull"]> => bench.puller.pull(artefact, never);

  before(async () => {
    server = await openDockerRegistry({ htpasswd });
    registry = new URL(server.url).host;
    bench = await openPullBench();
    await bench.setEntry("default_oci", { type: "oci", registry, username: "tester", password: "s3cret" });
    await bench.setEntry("wrong", { type: "oci", registry, username: "tester", password: "wrong-password" });
    await bench.setEntry("other", { type: "oci", registry: "registry.example", username: "tester", password: "s3cret" });
  });
  after(async () => {
    await bench?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
  });

  test("gives files that were pushed as layers, by tag and by digest", async () => {
    const file = (title: string): { bytes: Buffer; mediaType: string; title: string } => ({
      bytes: Buffer.from(title),
      mediaType: "application/vnd.example.model",
      title,
    });
    const digest = await push("models/files", "v1", [file("model.onnx"), file("1/weights")]);
    const byTag = await attempt({ storageUri: `oci://${registry}/models/files:v1` });
    assert.ok(byTag.kind === "ok", JSON.stringify(byTag));
    assert.deepEqual((await readdir(byTag.path, { recursive: true })).toSorted(), ["1", "1/weights", "model.onnx"]);
    const byDigest = await attempt({ storageUri: `oci://${registry}/models/files@${digest}`, schemaPath: "1/weights" });
    assert.ok(byDigest.kind === "ok", JSON.stringify(byDigest));
    assert.equal(await readFile(byDigest.schemaPath ?? "", "utf8"), "1/weights");
    await push("models/single", "latest", [file("iris.onnx")]);
    const single = await attempt({ storageUri: `oci://${registry}/models/single` });
    assert.ok(single.kind === "ok" && single.path.endsWith("/iris.onnx"), JSON.stringify(single));
  });

  test("gives what an image has below /models, its layers one over the other", async () => {
    const lower = { "models/a": "old", "models/gone": "x", "models/dir/b": "b", "etc/passwd": "not wanted" };
    const upper = { "./models/a": "new", "models/.wh.gone": "", "models/dir/.wh..wh..opq": "", "models/dir/c": "c" };
    await push("models/image", "v1", [
      { bytes: await tarOf(lower), mediaType: gzipLayer },
      { bytes: await tarOf(upper), mediaType: gzipLayer },
    ]);
    const pulled = await attempt({ storageUri: `oci://${registry}/models/image:v1` });
    assert.ok(pulled.kind === "ok", JSON.stringify(pulled));
    assert.deepEqual((await readdir(pulled.path, { recursive: true })).toSorted(), ["a", "dir", "dir/c"]);
    assert.equal(await readFile(join(pulled.path, "a"), "utf8"), "new");
    await push("models/hostile", "v1", [{ bytes: await tarOf({ "models/../../evil": "x" }), mediaType: gzipLayer }]);
    const hostile = await attempt({ storageUri: `oci://${registry}/models/hostile:v1` });
    assert.ok(
      hostile.kind === "failed" && hostile.failure === "model" && /the part \.\./.test(hostile.reason),
      JSON.stringify(hostile),
    );
  });

  test("tells what is absent, whose credentials are wrong, and for whom they are not", async () => {
    const absent = await attempt({ storageUri: `oci://${registry}/models/absent:v1` });
    assert.ok(
      absent.kind === "failed" && absent.failure === "model" && /nothing at .*models\/absent:v1/.test(absent.reason),
      JSON.stringify(absent),
    );
    const wrong = await attempt({ storageUri: `oci://${registry}/models/files:v1`, storageKey: "wrong" });
    assert.ok(
      wrong.kind === "failed" && wrong.failure === "storage" && /credentials are not accepted/.test(wrong.reason),
      JSON.stringify(wrong),
    );
    assert.ok(!wrong.reason.includes("wrong-password"));
    const other = await attempt({ storageUri: `oci://${registry}/models/files:v1`, storageKey: "other" });
    assert.ok(
      other.kind === "failed" && other.failure === "model" && /for another registry/.test(other.reason),
      JSON.stringify(other),
    );
    await using strict = await openPullBench({ allowPrivate: false });
    const refused = await strict.puller.pull({ storageUri: `oci://${registry}/models/files:v1` }, never);
    assert.ok(refused.kind === "failed" && /private address/.test(refused.reason), JSON.stringify(refused));
  });
});

// The commands that run one process of a fleet, as a user or a container runs them.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { openRunFolder } from "#platform/tempdir.ts";
import { waitFor } from "#platform/testing.ts";
import { findEnvoy } from "#test/harness/setup.ts";

const folder = await openRunFolder();
after(() => folder[Symbol.asyncDispose]());
const main = fileURLToPath(new URL("../main.ts", import.meta.url));

async function run(
  args: readonly string[],
  whenReady?: (child: ReturnType<typeof spawn>, ready: Readonly<Record<string, unknown>>) => void,
): Promise<{ readonly code: number | null; readonly out: string; readonly err: string }> {
  const child = spawn(process.execPath, [main, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let out = "";
  let err = "";
  child.stdout.on("data", (chunk: Buffer) => {
    out += chunk.toString();
    const ready = out.split("\n").find((line) => line.includes('"ready":true'));
    if (ready !== undefined && out.includes("\n")) whenReady?.(child, JSON.parse(ready) as Record<string, unknown>);
  });
  child.stderr.on("data", (chunk: Buffer) => (err += chunk.toString()));
  const [code] = (await once(child, "close")) as [number | null];
  return { code, out, err };
}

for (const service of ["gateway", "adapter", "controller", "onnx", "envoy-bootstrap"]) {
  test(`warmpath ${service} --help says what every option is for`, async () => {
    const { code, out } = await run([service, "--help"]);
    assert.equal(code, 0);
    const options = out.split("\n").filter((line) => line.startsWith("  --"));
    assert.ok(options.length > 5, out);
    for (const line of options) assert.match(line, /^ {2}--[a-z-]+( <[A-Z]+>)? {2,}\S/);
  });
}

test("what is missing or unknown is named in one line", async () => {
  const missing = await run(["gateway", "--gateway-id", "g"]);
  assert.equal(missing.code, 2);
  assert.match(missing.err, /--socket must be a path; --registry must name the registry/);
  const unknown = await run(["adapter", "--what"]);
  assert.equal(unknown.code, 2);
  assert.match(unknown.err, /unknown option '--what'/);
});

test("an etcd that is not there ends the start of a gateway with its address, once its patience is over", async () => {
  const flags = ["--gateway-id", "g", "--socket", join(folder.path, "g.sock"), "--registry", "etcd://127.0.0.1:1/x"];
  const { code, err, out } = await run(["gateway", ...flags, "--admin-port", "0", "--registry-patience", "1s"]);
  assert.equal(code, 1);
  assert.match(err, /the registry etcd:\/\/127\.0\.0\.1:1\/x does not answer/);
  assert.match(err + out, /the gateway waits for it/);
});

test("a gateway runs on with standard input closed, and ends in order at SIGTERM", async () => {
  const args = ["gateway", "--gateway-id", "g", "--socket", join(folder.path, "g.sock"), "--admin-port", "0"];
  const { code, out } = await run([...args, "--registry", join(folder.path, "registry.db")], (child) => child.kill("SIGTERM"));
  assert.equal(code, 0);
  assert.match(out, /"ready":true/);
});

test("a gateway tells its metrics, and nothing else, on a port of their own", async () => {
  const args = ["gateway", "--gateway-id", "m", "--socket", join(folder.path, "m.sock"), "--admin-port", "0"];
  const tokens = join(folder.path, "tokens.yaml");
  await writeFile(tokens, JSON.stringify({ tokens: [{ name: "somebody", role: "write", sha256: "0".repeat(64) }] }));
  const told: number[] = [];
  const { code, out, err } = await run(
    [...args, "--registry", join(folder.path, "registry.db"), "--metrics-port", "0", "--admin-tokens", tokens],
    (child, ready) => {
      const { adminPort, metricsPort } = ready;
      const ask = async (port: unknown, path: string): Promise<number> =>
        (await fetch(`http://127.0.0.1:${String(port)}${path}`)).status;
      void (async () => {
        told.push(await ask(adminPort, "/metrics"), await ask(metricsPort, "/metrics"), await ask(metricsPort, "/api/v1/models"));
      })().finally(() => child.kill("SIGTERM"));
    },
  );
  assert.equal(code, 0, out + err);
  assert.deepEqual(told, [401, 200, 404]);
});

test("a child of a supervisor ends with its standard input", async () => {
  const args = [
    "gateway",
    "--gateway-id",
    "p",
    "--socket",
    join(folder.path, "p.sock"),
    "--admin-port",
    "0",
    "--exit-with-parent",
  ];
  const child = spawn(process.execPath, [main, ...args, "--registry", join(folder.path, "registry.db")], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  await once(child.stdout, "data");
  child.stdin.end();
  await waitFor(() => child.exitCode !== null, { timeoutMs: 60_000 });
  assert.equal(child.exitCode, 0);
});

for (const more of [[], ["--otlp-endpoint", "http://127.0.0.1:4317", "--trace-share", "0.01"]]) {
  test(`Envoy takes the configuration that is written for it ${more.join(" ")}`, async () => {
    const out = join(folder.path, `envoy-${more.length}`);
    const sockets = ["--socket", join(folder.path, "g.sock"), "--envoy-admin", join(folder.path, "e.sock")];
    const written = await run([
      "envoy-bootstrap",
      "--out",
      out,
      "--node-id",
      "envoy-a",
      ...sockets,
      "--http-port",
      "0",
      "--grpc-port",
      "0",
      ...more,
    ]);
    assert.equal(written.code, 0, written.err);
    assert.equal((await readFile(join(out, "envoy.pb"))).includes("envoy.tracers.opentelemetry"), more.length > 0);
    assert.equal(written.out.trim(), join(out, "envoy.pb"));
    const envoy = spawn(
      await findEnvoy(),
      ["--mode", "validate", "--config-path", join(out, "envoy.pb"), "--log-level", "warning"],
      {
        stdio: "ignore",
      },
    );
    const [code] = (await once(envoy, "close")) as [number];
    assert.equal(code, 0);
  });
}

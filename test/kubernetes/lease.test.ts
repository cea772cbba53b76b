// A controller's process that an API server leaves without answers for longer than its lease is good: it stands by, and works on
// when it is answered again, without being started anew.
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { findFreePorts } from "#cli/up/ports.ts";
import { superviseProcess } from "#platform/process.ts";
import { openTcpProxy } from "../harness/tcpproxy.ts";
import { waitUntil } from "../harness/wait.ts";
import { openControlPlane } from "./harness/controlplane.ts";
import { applyCrds } from "./harness/crds.ts";
import { buildInferenceService } from "./harness/objects.ts";
import { whyNoControlPlane } from "./harness/programs.ts";

const skip = whyNoControlPlane() ?? false;

test("a controller without an API server stands by, and leads again when it is back", { skip }, async () => {
  await using stack = new AsyncDisposableStack();
  const plane = stack.use(await openControlPlane());
  await applyCrds(plane.kubectl);
  const proxy = stack.use(await openTcpProxy(new URL(plane.url).host));
  const kubeconfig = join(plane.folder, "proxied.kubeconfig");
  await writeFile(kubeconfig, (await readFile(plane.kubeconfig, "utf8")).replace(plane.url, `https://${proxy.address}`), {
    mode: 0o600,
  });
  const [port = 0] = (await findFreePorts("127.0.0.1", 31)).slice(30);
  const flags = {
    kubeconfig,
    namespace: "default",
    registry: join(plane.folder, "registry.db"),
    gateways: "http://127.0.0.1:9",
    image: "warmpath.test/warmpath:test",
    "health-port": port,
  };
  const main = fileURLToPath(new URL("../../controller/main.ts", import.meta.url));
  const args = [main, ...Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, `${value}`])];
  const controller = stack.use(
    superviseProcess({ name: "controller", command: process.execPath, args, restart: { kind: "never" } }),
  );
  const read = (path: string): Promise<string> =>
    fetch(`http://127.0.0.1:${port}${path}`).then(
      (answer) => answer.text(),
      () => "",
    );
  const untilSynced = (): Promise<string> =>
    waitUntil(
      "it leads and knows everything",
      () => read("/metrics"),
      (text) => /^warmpath_controller_synced 1$/m.test(text),
      120_000,
    );
  await untilSynced();
  proxy.stop("down");
  await waitUntil(
    "it stands by",
    () => read("/readyz"),
    (text) => text === "standing by\n",
    120_000,
  );
  assert.match(await read("/metrics"), /^warmpath_controller_leading 0$/m);
  proxy.go();
  await untilSynced();
  await plane.kubectl.apply(buildInferenceService("later", "s3://models/iris"));
  await waitUntil(
    "what comes later is taken up",
    () => plane.kubectl.get("isvc", "later"),
    (it) => it?.status?.modelStatus?.lastFailureInfo?.reason === "NoSupportingRuntime",
    120_000,
  );
  assert.deepEqual([controller.state.kind, controller.restarts], ["ready", 0]);
});

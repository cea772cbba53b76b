// The real client libraries that users have, unchanged, against a whole fleet.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Server } from "@grpc/grpc-js";
import { bindServer, closeServer } from "#platform/grpc.ts";
import { openRegistry } from "#platform/registry/open.ts";
import { addEcho } from "../harness/echoservice.ts";
import { openFakePod } from "../harness/fakepod.ts";
import { openFleet } from "../harness/fleet.ts";
import { openOpenaiServer } from "../harness/openaiserver.ts";
import { waitUntil } from "../harness/wait.ts";
import { clientPython, runCases } from "./environment.ts";

const scripts = ["triton_clients.py", "kserve_clients.py", "openai_clients.py", "grpconly_clients.py"];

test("stock clients", { timeout: 1_700_000 }, async (context) => {
  const python = await clientPython();
  await using fleet = await openFleet();
  await using server = await openOpenaiServer();
  await using registry = await openRegistry({ kind: "embedded", file: fleet.registryFile });
  const { address } = server;
  await using _pod = await openFakePod({ registry, podId: "llm-0", runtime: "llm", restAddress: address, grpcAddress: address });
  const echo = new Server();
  addEcho(echo, { holds: (name) => name === "echo" });
  const own = `127.0.0.1:${await bindServer(echo, "127.0.0.1:0")}`;
  await using stack = new AsyncDisposableStack();
  stack.defer(() => closeServer(echo, 200));
  const grpcOnly = { restAddress: own, grpcAddress: own, restByGrpc: true };
  await using _echo = await openFakePod({ registry, podId: "echo-0", runtime: "echo", ...grpcOnly });
  await waitUntil(
    "the pods are linked",
    () => fleet.management.linkedPods(),
    (pods) => pods === 4,
  );
  await fleet.register("echo", "file:///echo", "echo");
  await fleet.register("smol", "file:///smol.gguf", "llm");
  const target = new URL(fleet.restUrl).host;
  for (const script of scripts) {
    const results = await runCases(python, script, [target, fleet.grpcTarget]);
    for (const { case: name, ok, saw } of results) {
      await context.test(`${script}: ${name}`, () => assert.ok(ok, saw ?? "it failed without a word"));
    }
    assert.ok(results.length > 10, `${script} told of only ${results.length} cases`);
  }
});

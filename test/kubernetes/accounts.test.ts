// Accounts of a cluster at the management API: a real API server says whose a token is and what its account may do, and the
// gateway asks with exactly the rights that the chart gives it.
import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { createKubeCallers } from "#gateway/admin/kubecallers.ts";
import { addRoute, ok } from "#gateway/admin/route.ts";
import { createAdmin } from "#gateway/admin/server.ts";
import { systemClock } from "#platform/clock.ts";
import { createRecordingLog } from "#platform/testing.ts";
import { type ControlPlane, openControlPlane } from "./harness/controlplane.ts";
import { chartFolder } from "./harness/crds.ts";
import { createKubectl, runCommand } from "./harness/kubectl.ts";
import { findHelm, findPrograms, whyNoControlPlane } from "./harness/programs.ts";

const skip = whyNoControlPlane() ?? false;
const release = "warmpath";

describe("accounts at the management API", { skip }, () => {
  const stack = new AsyncDisposableStack();
  let plane: ControlPlane;
  let folder: string;
  let monotonicMs = 0;
  const clock = { ...systemClock, monotonicMs: () => monotonicMs };
  const log = createRecordingLog();
  const tokens = new Map<string, string>();

  before(async () => {
    plane = stack.use(await openControlPlane());
    const args = ["template", release, chartFolder, "--namespace", "default", "--set", "managementTokens.accounts=true"];
    const { code, stdout, stderr } = await runCommand(await findHelm(), [...args, "--show-only", "templates/accounts.yaml"]);
    assert.equal(code, 0, stderr);
    await plane.kubectl.apply(stdout);
    for (const account of ["reader", "writer", "stranger"]) await plane.kubectl("create", "serviceaccount", account);
    for (const [account, role] of [
      ["reader", "read"],
      ["writer", "write"],
    ] as const) {
      const args = ["create", "rolebinding", account, `--role=${release}-management-${role}`];
      await plane.kubectl(...args, `--serviceaccount=default:${account}`);
    }
    for (const account of ["reader", "writer", "stranger", `${release}-gateway`])
      tokens.set(account, (await plane.kubectl("create", "token", account)).trim());
    folder = join(plane.folder, "gateway-account");
    await mkdir(folder);
    await writeFile(join(folder, "token"), `${tokens.get(`${release}-gateway`)}\n`, { mode: 0o600 });
    await writeFile(join(folder, "ca.crt"), plane.ca);
  });
  after(() => stack.disposeAsync());

  const openCallers = (api = plane.url) => createKubeCallers({ api, accountFolder: folder, namespace: "default", clock, log });

  test("the rights of an account are what it may do", async () => {
    await using callers = openCallers();
    const app = createAdmin({
      log,
      callers,
      routes: [
        (scope) => {
          for (const method of ["GET", "PUT"] as const)
            addRoute(scope, {
              method,
              url: "/api/v1/things",
              summary: "A thing.",
              answers: { 200: "It." },
              handle: () => ok({}),
            });
        },
      ],
    });
    const ask = async (method: "GET" | "PUT", token: string | undefined): Promise<readonly [number, string]> => {
      const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
      const { statusCode, body } = await app.inject({ method, url: "/api/v1/things", headers });
      return [statusCode, body];
    };
    const rows: readonly (readonly [account: string, get: number, put: number])[] = [
      ["reader", 200, 403],
      ["writer", 200, 200],
      ["stranger", 403, 403],
    ];
    for (const [account, get, put] of rows) {
      assert.equal((await ask("GET", tokens.get(account)))[0], get, account);
      assert.equal((await ask("PUT", tokens.get(account)))[0], put, account);
    }
    assert.match(
      (await ask("GET", tokens.get("stranger")))[1],
      /system:serviceaccount:default:stranger may neither look nor change.*managements\.warmpath\.dev/,
    );
    for (const token of [undefined, "nonsense", "a.b.c", `${tokens.get("writer")}x`])
      assert.equal((await ask("GET", token))[0], 401);
    const session = await app.inject({ method: "POST", url: "/api/v1/session", payload: { token: tokens.get("stranger") } });
    assert.equal(session.statusCode, 401);
    assert.equal(
      log.lines.some(({ keys }) => JSON.stringify(keys ?? {}).includes(tokens.get("writer") ?? "?")),
      false,
    );
  });

  test("what was told is remembered for a minute, and asked anew then", async () => {
    await using callers = openCallers();
    const token = tokens.get("writer") ?? "";
    assert.equal((await callers.find(token))?.role, "write");
    await plane.kubectl("delete", "rolebinding", "writer");
    assert.equal((await callers.find(token))?.role, "write");
    monotonicMs += 61_000;
    const found = await Promise.all([callers.find(token), callers.find(token)]);
    assert.deepEqual(
      found.map((caller) => caller?.role),
      ["none", "none"],
    );
  });

  test("an API server that does not answer lets nobody in", async () => {
    const silent = createServer((socket) => socket.destroy());
    const { promise, resolve } = Promise.withResolvers<void>();
    silent.listen(0, "127.0.0.1", () => resolve());
    await promise;
    const address = silent.address();
    assert.ok(typeof address === "object" && address !== null);
    await using callers = openCallers(`https://127.0.0.1:${address.port}`);
    assert.equal(await callers.find(tokens.get("reader") ?? ""), undefined);
    assert.ok(log.lines.some(({ message }) => message.includes("could not say whose a management token is")));
    silent.close();
  });

  test("the gateway's account may ask whose a token is and what it may do here, and nothing else", async () => {
    const kubeconfig = await plane.kubeconfigFor("gateway", tokens.get(`${release}-gateway`) ?? "");
    const asGateway = createKubectl(join(await findPrograms(), "kubectl"), kubeconfig);
    for (const [verb, what] of [
      ["get", "secrets"],
      ["get", "pods"],
      ["create", "subjectaccessreviews"],
      ["get", "managements.warmpath.dev"],
      ["list", "models.warmpath.dev"],
    ] as const) {
      const { stdout } = await asGateway.run(["auth", "can-i", verb, what]);
      assert.equal(stdout.trim(), "no", `${verb} ${what}`);
    }
    assert.equal((await asGateway.run(["auth", "can-i", "create", "tokenreviews.authentication.k8s.io"])).stdout.trim(), "yes");
  });
});

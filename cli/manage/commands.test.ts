import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { CommanderError } from "commander";
import { openAdminBench } from "#gateway/admin/testing.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { waitFor } from "#platform/testing.ts";
import { createAuthority } from "#platform/tls/authority.ts";
import { buildProgram } from "../program.ts";
import { CommandError } from "./failure.ts";
import { formatProgress } from "./wait.ts";

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly error: string;
}

async function run(
  args: readonly string[],
  env: Record<string, string> = {},
  isTerminal = false,
  progress?: (line: string) => void,
): Promise<Ran> {
  await using stack = new AsyncDisposableStack();
  const printed: string[] = [];
  let code = 0;
  const program = buildProgram({
    env,
    isTerminal,
    width: 120,
    print: (text) => void printed.push(text),
    progress,
    signal: new AbortController().signal,
    stack,
    setExitCode: (given) => {
      code = given;
    },
  });
  try {
    await program.parseAsync(["node", "warmpath", ...args]);
    return { code, out: printed.join("\n"), error: "" };
  } catch (error) {
    if (error instanceof CommandError) return { code: error.exitCode, out: printed.join("\n"), error: error.message };
    assert.ok(error instanceof CommanderError, String(error));
    return { code: 2, out: printed.join("\n"), error: error.message };
  }
}

interface Served extends AsyncDisposable {
  cli(...args: string[]): Promise<Ran>;
}

async function serve(pods = 2): Promise<Served> {
  const bench = await openAdminBench({ pods });
  const url = await bench.app.listen({ host: "127.0.0.1", port: 0 });
  return { cli: (...args) => run(args, { WARMPATH_URL: url }), [Symbol.asyncDispose]: () => bench[Symbol.asyncDispose]() };
}

const artefact = ["--format", "onnx", "--uri", "file:///a.onnx"];

test("a model's whole life: register, list, load, get, explain, history, unregister", async () => {
  await using gateway = await serve();
  assert.match((await gateway.cli("models", "register", "m", ...artefact, "--label", "app=x")).out, /m is registered/);
  assert.match((await gateway.cli("models", "register", "m", ...artefact, "--label", "app=x")).out, /so already/);
  assert.match((await gateway.cli("models", "list", "--label", "app=x")).out, /^MODEL +STATE[\s\S]*\nm +cold/);
  assert.match((await gateway.cli("models", "load", "m")).out, /m: 1 ready/);
  assert.match((await gateway.cli("models", "get", "m")).out, /active +ready +1[\s\S]*pod-\d/);
  assert.match((await gateway.cli("explain", "m", "--pods")).out, /m is ready[\s\S]*VERDICT/);
  assert.match((await gateway.cli("models", "history", "m")).out, /registered[\s\S]*ready/);
  assert.match((await gateway.cli("models", "unregister", "m")).out, /not registered any more/);
  assert.deepEqual((await gateway.cli("models", "get", "m")).code, 3);
});

test("revisions: update, promote, split, mirror, roll back, remove", async () => {
  await using gateway = await serve();
  await gateway.cli("models", "register", "m", ...artefact);
  await gateway.cli("models", "load", "m");
  const next = ["--format", "onnx", "--uri", "file:///never.onnx"];
  assert.match((await gateway.cli("models", "register", "m", ...next, "--update")).out, /becomes active once it is loaded/);
  assert.match((await gateway.cli("revisions", "list", "m")).out, /target +loading/);
  assert.match((await gateway.cli("revisions", "rollback", "m")).out, /is active$/);
  assert.match((await gateway.cli("revisions", "add", "m", ...next, "--id", "v2", "--activate", "never")).out, /is active$/);
  assert.match((await gateway.cli("revisions", "split", "m", "v2=10")).out, /is active/);
  assert.match((await gateway.cli("revisions", "list", "m")).out, /v2 +10 %/);
  assert.equal((await gateway.cli("revisions", "remove", "m", "v2")).code, 4);
  await gateway.cli("revisions", "split", "m");
  await gateway.cli("revisions", "mirror", "m", "v2=5%");
  assert.match((await gateway.cli("revisions", "list", "m")).out, /mirror 5 %/);
  await gateway.cli("revisions", "mirror", "m");
  assert.match((await gateway.cli("revisions", "promote", "m", "v2", "--force")).out, /m: v2 is active/);
});

test("pods, top and doctor", async () => {
  await using gateway = await serve();
  assert.match((await gateway.cli("pods", "list")).out, /pod-0 +ready +onnx/);
  assert.match((await gateway.cli("pods", "drain", "pod-0")).out, /is being emptied/);
  assert.equal((await gateway.cli("pods", "drain", "nope")).code, 3);
  assert.match((await gateway.cli("top")).out, /models +0 registered[\s\S]*pod-1/);
  const doctor = await gateway.cli("doctor");
  assert.equal(doctor.code, 0, doctor.out);
  assert.match(doctor.out, /gateway[\s\S]*version +gateway and command line are[\s\S]*registry +it answers[\s\S]*clock +agrees/);
});

test("doctor is told of a wrong command line though a gateway answers", async () => {
  await using gateway = await serve();
  for (const [option, says] of [
    ["--ports=80,x", /--ports must be ports separated by commas, not '80,x'/],
    ["--ports=70000", /--ports must be ports/],
    ["--etcd=nowhere", /--etcd must be host:port, not 'nowhere'/],
    ["--etcd=a:70000", /--etcd must be host:port/],
  ] as const) {
    const { code, error } = await gateway.cli("doctor", option);
    assert.equal(code, 2, error);
    assert.match(error, says);
  }
});

test("doctor says what is odd with Envoy, ports, certificates and etcd, and what to do", async () => {
  await using folder = await openRunFolder();
  const old = join(folder.path, "envoy");
  writeFileSync(old, "#!/bin/sh\necho 'envoy  version: 0123abc/1.19.0/Clean/RELEASE/BoringSSL'\n", { mode: 0o755 });
  const pem = join(folder.path, "cert.pem");
  writeFileSync(pem, (await (await createAuthority("soon over", 3_600_000)).issue(["a"], 3_600_000)).cert);
  const taken = createServer();
  taken.listen(0, "127.0.0.1");
  await once(taken, "listening");
  const { port } = taken.address() as AddressInfo;
  const options = ["--url", "http://127.0.0.1:1", "--ports", `${port}`, "--cert", pem, "--etcd", "127.0.0.1:1"];
  const { code, out } = await run(["doctor", ...options], { WARMPATH_ENVOY: old });
  taken.close();
  assert.equal(code, 1);
  for (const line of [
    /warn +envoy +Envoy 1\.19\.0, where 1\.40 is what is tested: unset/,
    /wrong +gateway +no gateway answers/,
    new RegExp(`wrong +port ${port} +is taken`),
    /warn +certificate .* expires .*: renew it/,
    /wrong +etcd 127\.0\.0\.1:1 +ECONNREFUSED: is etcd up/,
  ]) {
    assert.match(out, line);
  }
});

test("a drain can be waited for, with what is left on a terminal", async () => {
  await using bench = await openAdminBench({ pods: 1 });
  const url = await bench.app.listen({ host: "127.0.0.1", port: 0 });
  await run(["models", "register", "m", ...artefact, "--url", url]);
  await run(["models", "load", "m", "--url", url]);
  const lines: string[] = [];
  const draining = run(["pods", "drain", "pod-0", "--wait", "--url", url], {}, true, (line) => void lines.push(line));
  await waitFor(() => lines.some((line) => line.includes("1 copies left")));
  bench.lose("pod-0", "m", String(bench.fleet.pod("pod-0")?.copies.values().next().value?.revision));
  assert.match((await draining).out, /pod-0 is empty/);
  assert.equal(lines.at(-1), "", "nothing of it is left on the terminal");
});

test("trace tells where the time of a slow request went, and says so when there is none", async () => {
  await using bench = await openAdminBench({ pods: 1 });
  const url = await bench.app.listen({ host: "127.0.0.1", port: 0 });
  const trace = (...args: string[]): Promise<Ran> => run(["trace", ...args, "--url", url]);
  assert.match((await trace("m")).out, /no slow or failed request of m is remembered/);
  const step = { depth: 1, failure: undefined, facts: { pod: "pod-0" }, loadingMs: undefined };
  const steps = [
    { ...step, name: "park", depth: 0, fromMs: 0, toMs: 1_000, facts: {} },
    { ...step, name: "place", fromMs: 0, toMs: 10, facts: {} },
    { ...step, name: "ask", fromMs: 10, toMs: 900, loadingMs: 500, failure: "disk \u001B[31mfull" },
  ];
  const record = { kind: "miss", atMs: 0, tookMs: 1_000, failure: "pod-failed", traceId: "a".repeat(32), steps } as const;
  for (const model of ["other", "m"]) bench.slow.add({ ...record, model });
  const { out } = await trace("m");
  assert.match(out, /^miss of m, 1970-01-01T00:00:00\.000Z, took 1000 ms, pod-failed, trace a{32}\n/);
  assert.match(out, /\n +park +█{40} +1000 ms\n +place +█·{39} +10 ms\n/);
  assert.match(out, /the pod's queue: pod-0 +█{20}·{20} +490 ms\n +pull and load: pod-0 +·{20}█{16}·{4} +400 ms {2}disk/);
  assert.ok(!out.includes("other") && !out.includes("\u001B"));
  assert.equal((await trace()).out.match(/^miss of/gm)?.length, 2);
  await run(["models", "register", "m", ...artefact, "--url", url]);
  const explained = await run(["explain", "a".repeat(32), "--url", url]);
  assert.match(explained.out, /^miss of (?:m|other), .*\n[\s\S]*pull and load/);
  await run(["models", "unregister", "m", "--url", url]);
  assert.match((await run(["explain", "a".repeat(32), "--url", url])).out, /^miss of/);
  assert.match((await run(["explain", `00-${"A".repeat(32)}-${"c".repeat(16)}-01`, "--url", url])).out, /^miss of/);
  const neither = await run(["explain", "b".repeat(32), "--url", url]);
  assert.equal(neither.code, 3, "neither a request nor a model");
  assert.match(neither.error, /no request of the trace b+ is remembered: each gateway keeps the latest 64/);
  assert.equal((JSON.parse((await trace("m", "--json")).out) as { requests: unknown[] }).requests.length, 1);
});

test("a bar shows what is known of how far it is, within the terminal's width", () => {
  assert.equal(
    formatProgress({ share: 0.5, says: "2 of 4 ready" }, 3_400, 80),
    `${"█".repeat(12)}${"░".repeat(12)} 2 of 4 ready, 3 s`,
  );
  for (const seconds of [0, 1, 7, 50]) {
    const line = formatProgress({ says: "x".repeat(200) }, seconds * 1_000, 60);
    assert.equal(line.length, 59);
    assert.equal(line.match(/█/g)?.length, 3);
  }
});

test("--json gives one JSON object, without colours even when they are asked for", async () => {
  await using gateway = await serve();
  await gateway.cli("models", "register", "m", ...artefact);
  for (const args of [
    ["models", "list"],
    ["models", "get", "m"],
    ["revisions", "list", "m"],
    ["explain", "m"],
    ["pods", "list"],
    ["doctor"],
    ["top"],
  ]) {
    const { out } = await gateway.cli(...args, "--json");
    assert.equal(typeof JSON.parse(out), "object", args.join(" "));
  }
});

test("colours only on a terminal, and never with NO_COLOR", async () => {
  await using bench = await openAdminBench({ pods: 1 });
  const url = await bench.app.listen({ host: "127.0.0.1", port: 0 });
  const isColoured = async (env: Record<string, string>, isTerminal: boolean): Promise<boolean> =>
    (await run(["pods", "list", "--url", url], env, isTerminal)).out.includes("\u001B[");
  assert.deepEqual(
    [await isColoured({}, false), await isColoured({}, true), await isColoured({ NO_COLOR: "1" }, true)],
    [false, true, false],
  );
});

const mistakes: [what: string, args: string[], code: number, error: RegExp][] = [
  ["an unknown command", ["modles"], 2, /unknown command 'modles'/],
  ["an unknown option", ["models", "list", "--lable", "x"], 2, /unknown option '--lable'/],
  ["a missing argument", ["models", "get"], 2, /missing required argument/],
  ["a bad address", ["models", "list", "--url", "ftp://x"], 2, /--url must be an address/],
  ["nobody there", ["models", "list", "--url", "http://127.0.0.1:1"], 5, /no gateway answers/],
  ["a bad number", ["models", "list", "--limit", "many"], 2, /--limit must be a whole number/],
  ["a bad share", ["revisions", "split", "m", "v2"], 2, /REVISION=PERCENT/],
  ["a token file that is not there", ["models", "list", "--token-file", "/nowhere"], 2, /cannot be read/],
  ["a bad label", ["models", "register", "m", ...artefact, "--label", "x"], 2, /--label must be key=value/],
  ["an unknown shell", ["completion", "tcsh"], 2, /knows bash, zsh, fish/],
];

for (const [what, args, code, error] of mistakes) {
  test(`${what} is one line and exit code ${code}`, async () => {
    const ran = await run(args);
    assert.equal(ran.code, code, ran.error);
    assert.match(ran.error, error);
    assert.doesNotMatch(ran.error, /\n {4}at /);
  });
}

test("a refusal of the gateway is told with its code", async () => {
  await using gateway = await serve();
  await gateway.cli("models", "register", "m", ...artefact);
  const ran = await gateway.cli("models", "register", "m", "--format", "onnx", "--uri", "file:///b.onnx");
  assert.equal(ran.code, 4);
  assert.match(ran.error, /another content \(already-exists\)/);
});

test("--version is known to programs and people", async () => {
  assert.match(execFileSync(process.execPath, ["cli/main.ts", "--version"], { encoding: "utf8" }), /^\d+\.\d+\.\d+\n$/);
});

test("completion: bash completes commands and options", async () => {
  const { out } = await run(["completion", "bash"]);
  const ask = (line: string): string[] =>
    execFileSync(
      "bash",
      [
        "-c",
        `${out}\nCOMP_WORDS=(${line} ""); COMP_CWORD=$(( \${#COMP_WORDS[@]} - 1 )); _warmpath; printf '%s\\n' "\${COMPREPLY[@]}"`,
      ],
      { encoding: "utf8" },
    ).split("\n");
  assert.ok(ask("warmpath").includes("models"));
  assert.ok(ask("warmpath models").includes("register"));
  assert.ok(ask("warmpath models list").includes("--tenant"));
  assert.ok(ask("warmpath explain m").includes("--pods"));
  for (const shell of ["zsh", "fish"]) assert.match((await run(["completion", shell])).out, /models/);
});

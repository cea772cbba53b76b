// The Dockerfile, step by step in a folder of its own: its base image needs a registry, what it does does not. What comes of it
// runs each of our processes.
import assert from "node:assert/strict";
import { cpSync, mkdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { openRunFolder } from "#platform/tempdir.ts";
import { runCommand } from "./harness/kubectl.ts";

const root = join(import.meta.dirname, "..", "..");

interface Step {
  readonly word: string;
  readonly rest: string;
}

function parseDockerfile(text: string): readonly Step[] {
  const lines = text
    .replaceAll(/^#.*\n/gm, "")
    .replaceAll(/\\\n\s*/g, "")
    .split("\n");
  return lines.flatMap((line) => {
    const [, word = "", rest = ""] = /^([A-Z]+) (.+)$/.exec(line) ?? [];
    return word === "" ? [] : [{ word, rest }];
  });
}

test("each step of the Dockerfile does what it is to do, and each process of the image says how it is run", async () => {
  await using run = await openRunFolder();
  /** Stage -> its root folder. */
  const stages = new Map<string, string>();
  let stage = "";
  let workdir = "/";
  let entrypoint: readonly string[] = [];
  const inside = (path: string): string => join(stages.get(stage) ?? "", path.startsWith("/") ? path : join(workdir, path));
  const path = `${dirname(process.execPath)}:${process.env["PATH"] ?? ""}`;
  for (const { word, rest } of parseDockerfile(readFileSync(join(root, "Dockerfile"), "utf8"))) {
    if (word === "FROM") {
      assert.match(rest, /^node:26\.10-bookworm-slim(?: AS packages)?$/);
      stage = / AS (\w+)$/.exec(rest)?.[1] ?? "last";
      stages.set(stage, join(run.path, stage));
      workdir = "/";
    } else if (word === "WORKDIR") {
      workdir = rest;
      mkdirSync(inside("."), { recursive: true });
    } else if (word === "COPY") {
      const [, from, names = ""] = /^(?:--from=(\w+) )?(.+)$/.exec(rest) ?? [];
      const words = names.split(" ");
      const target = words.pop() ?? "";
      for (const name of words) {
        const source = from === undefined ? join(root, name) : join(stages.get(from) ?? "", name);
        cpSync(source, target.endsWith("/") ? inside(join(target, name)) : inside(target), { recursive: true });
      }
    } else if (word === "RUN") {
      const { code, stderr } = await runCommand("sh", ["-c", `cd ${inside(".")} && ${rest}`], undefined, { PATH: path });
      assert.equal(code, 0, stderr);
    } else if (word === "ENTRYPOINT") entrypoint = JSON.parse(rest) as string[];
    else assert.match(word, /^(?:ENV|USER)$/);
  }
  const [program, script = ""] = entrypoint;
  assert.equal(program, "node");
  for (const service of ["gateway", "adapter", "controller", "onnx", "envoy-bootstrap"]) {
    // It begins as the image does: what it loads at its start is there.
    const { code, stdout, stderr } = await runCommand(process.execPath, [inside(script), service, "--help"]);
    assert.equal(code, 0, stderr);
    assert.match(stdout, new RegExp(`^Usage: warmpath ${service} `));
  }
  // What is loaded later is there too.
  const later = ["onnxruntime-node", "etcd3", "@aws-sdk/client-s3", "@azure/storage-blob", "@google-cloud/storage"];
  const check = `for (const name of ${JSON.stringify(later)}) await import(name);`;
  const load = `cd ${inside(".")} && ${process.execPath} --input-type=module --eval '${check}'`;
  const loaded = await runCommand("sh", ["-c", load]);
  assert.equal(loaded.code, 0, loaded.stderr);
});

// Python packages that tests install are pinned by version and hash, what they ask for included.
// `X.in` says what is wanted; `X.txt` is made from it:
//   uv pip compile --generate-hashes --python-platform x86_64-unknown-linux-gnu --python-version 3.11 \
//     --no-annotate --no-header X.in -o X.txt
// with --no-deps for those that are installed without what they ask for.
import assert from "node:assert/strict";
import { test } from "node:test";
import { findFiles, pythonName, readText } from "./sources.ts";

const locks = findFiles(/^.+\.txt$/).filter((file) => file.startsWith("test/"));

interface Pinned {
  readonly name: string;
  readonly hashes: readonly string[];
}

function read(file: string): readonly Pinned[] {
  const lines = readText(file)
    .replaceAll(/\\\n\s*/g, " ")
    .split("\n");
  return lines
    .filter((line) => line.trim() !== "")
    .map((line) => {
      const [requirement = ""] = line.split(" ");
      return {
        name: pythonName(requirement),
        hashes: Array.from(line.matchAll(/--hash=sha256:([0-9a-f]{64})/g), ([, hash = ""]) => hash),
      };
    });
}

test("each package has its version and its hashes", () => {
  assert.ok(locks.length >= 6, locks.join());
  for (const file of locks) {
    for (const { name, hashes } of read(file)) {
      assert.match(name, /^[a-z0-9-]+==\d/, `${file}: ${name}`);
      assert.ok(hashes.length > 0, `${file}: ${name} has no hash`);
    }
  }
});

test("what is wanted is what is pinned", () => {
  for (const file of locks) {
    const pinned = new Set(read(file).map(({ name }) => name));
    const wanted = readText(file.replace(/\.txt$/, ".in"))
      .split("\n")
      .filter((line) => line !== "");
    assert.ok(wanted.length > 0);
    for (const requirement of wanted) assert.ok(pinned.has(pythonName(requirement)), `${file}: ${requirement}`);
  }
});

test("whoever installs them has the hashes checked", () => {
  const installs = findFiles(/\.(ts|mjs)$/).filter((file) => /-m pip install|"pip",\s*"download"/.test(readText(file)));
  assert.ok(installs.length >= 1);
  for (const file of installs.filter((each) => !each.startsWith("test/supplychain/"))) {
    assert.match(readText(file), /--require-hashes|sha256/, file);
  }
});

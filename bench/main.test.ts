import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { benchmarks } from "./list.ts";
import { benchmarkNames } from "./names.ts";

const main = fileURLToPath(new URL("main.ts", import.meta.url));

test("the names are those of the benchmarks, in the order of the report", () => {
  assert.deepEqual(
    benchmarks.map(({ name }) => name),
    benchmarkNames,
  );
});

/** All of them take seconds to load: whoever tries ends with another code. */
const withoutBenchmarks = `data:text/javascript,${encodeURIComponent(`
import { registerHooks } from "node:module";
registerHooks({ load: (url, context, next) => (url.endsWith("/bench/list.ts") ? process.exit(99) : next(url, context)) });
`)}`;

const mistakes: readonly { readonly args: readonly string[]; readonly says: RegExp }[] = [
  { args: ["hitt"], says: /there is no benchmark hitt\. There is: report, start, hit/ },
  { args: [], says: /name a benchmark: report, start/ },
  { args: ["hit", "miss"], says: /there is no benchmark hit miss/ },
  { args: ["hit", "--round", "2"], says: /--round/ },
  { args: ["report", "--keep", "--quick"], says: /--keep and --quick do not go together/ },
  { args: ["report", "--only", "hitt"], says: /must be of start, hit/ },
];

for (const { args, says } of mistakes) {
  test(`bench ${args.join(" ")} is told what is wrong, before any benchmark is loaded`, async () => {
    const { promise, resolve } = Promise.withResolvers<{ readonly code: unknown; readonly said: string }>();
    execFile(process.execPath, ["--import", withoutBenchmarks, main, ...args], (error, _out, said) =>
      resolve({ code: error?.code, said }),
    );
    const { code, said } = await promise;
    assert.equal(code, 2, said.slice(-500));
    assert.match(said, says);
  });
}

// Builds the model library: `cli/library/main.ts --out DIR [--json]`. Progress goes to standard output, a line each 5 %,
// as `500 / 10000 models`, or as JSON objects. Skips what is there already.
import { parseArgs } from "node:util";
import { runMain, StartupError } from "#platform/lifecycle.ts";
import { buildLibrary } from "./build.ts";
import { fetchSources } from "./sources.ts";

await runMain("library", async (signal) => {
  const { out, json } = readOptions();
  const print = (text: string, record: Readonly<Record<string, unknown>>): void => {
    process.stdout.write(`${json ? JSON.stringify(record) : text}\n`);
  };
  const startedMs = performance.now();
  let shown = 0;
  const result = await buildLibrary({
    ...fetchSources(),
    outFolder: out,
    signal,
    onProgress(done, total) {
      if (done < total && done - shown < total / 20) return;
      shown = done;
      print(`${done} / ${total} models`, { done, total });
    },
  }).catch((error: unknown) => {
    if (signal.aborted) return undefined;
    throw error;
  });
  // A build that was stopped is no success: who waits for it must not take the folder for whole.
  if (result === undefined) return 1;
  const { manifest, built } = result;
  const seconds = Number(((performance.now() - startedMs) / 1_000).toFixed(1));
  const models = manifest.models.length;
  const bytes = manifest.models.reduce((sum, model) => sum + model.bytes, 0);
  print(
    built
      ? `Built ${models} models, ${(bytes / 1e6).toFixed(1)} MB, in ${seconds} s: ${out}`
      : `All ${models} models are there: ${out}`,
    { folder: out, models, bytes, built, seconds },
  );
  return 0;
});

function readOptions(): { readonly out: string; readonly json: boolean } {
  try {
    const { values } = parseArgs({ options: { out: { type: "string" }, json: { type: "boolean", default: false } } });
    if (values.out !== undefined && values.out !== "") return { out: values.out, json: values.json };
  } catch {
    // Told below, as a missing folder is.
  }
  throw new StartupError("Say where the model library shall lie: cli/library/main.ts --out DIR [--json]");
}

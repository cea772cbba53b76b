// Owns the oracle of scrapes: the parsers of the Python client of Prometheus, of which the one for OpenMetrics is the
// reference of that format. A pure wheel is a zip that Python imports from as it is.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { cacheFolder, downloadWheel, findPython, wheels } from "../../cli/setup/wheels.mjs";

export interface ParsedSample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
  readonly exemplar: { readonly labels: Readonly<Record<string, string>>; readonly value: number } | null;
}

export interface ParsedFamily {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  readonly samples: readonly ParsedSample[];
}

const script = `
import json, sys, math
from prometheus_client.parser import text_string_to_metric_families as text
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
parse = {"text": text, "openmetrics": openmetrics}[sys.argv[1]]
def number(v): return v if math.isfinite(v) else str(v)
for f in parse(sys.stdin.read()):
    print(json.dumps({"name": f.name, "type": f.type, "help": f.documentation, "samples": [
        {"name": s.name, "labels": s.labels, "value": number(s.value),
         "exemplar": None if s.exemplar is None else {"labels": s.exemplar.labels, "value": s.exemplar.value}} for s in f.samples]}))
`;

/** Throws with the parser's own words when the text breaks the format. */
export function parseExposition(text: string, format: "text" | "openmetrics"): readonly ParsedFamily[] {
  const done = spawnSync(findPython(), ["-c", script, format], {
    input: text,
    encoding: "utf8",
    maxBuffer: 64 << 20,
    env: { ...process.env, PYTHONPATH: findParser() },
  });
  if (done.status !== 0) throw new Error(`the ${format} parser refuses the text: ${done.stderr.trim().split("\n").at(-1)}`);
  return done.stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as ParsedFamily);
}

function findParser(): string {
  const { name, version } = wheels.prometheusClient;
  const folder = join(cacheFolder(), `${name}-${version}`);
  if (!existsSync(folder)) {
    mkdirSync(cacheFolder(), { recursive: true });
    const work = mkdtempSync(join(cacheFolder(), "part-"));
    downloadWheel(wheels.prometheusClient, work);
    try {
      renameSync(work, folder);
    } catch (error) {
      rmSync(work, { recursive: true, force: true });
      if (!existsSync(folder)) throw error;
    }
  }
  const file = readdirSync(folder).find((each) => each.endsWith(".whl"));
  if (file === undefined) throw new Error(`${folder} holds no wheel`);
  return join(folder, file);
}

/** What Prometheus' own linter complains of, and this house's rules: names, units, help, bounded labels. */
export function lintFamilies(families: readonly ParsedFamily[]): readonly string[] {
  const names = new Set<string>();
  return families.flatMap(({ name, type, help, samples }) => {
    const complaints: string[] = [];
    if (names.has(name)) complaints.push(`${name} comes twice`);
    names.add(name);
    if (help === "") complaints.push(`${name} has no help`);
    if (!/^[a-z][a-z0-9_]*$/.test(name)) complaints.push(`${name} is no name in snake case`);
    if (/_(milliseconds|ms|minutes|kilobytes|mb|percent)$/.test(name)) complaints.push(`${name} is not in a base unit`);
    if (type !== "counter" && name.endsWith("_total")) complaints.push(`${name} ends like a counter`);
    if (type !== "histogram" && /_(count|sum|bucket)$/.test(name)) complaints.push(`${name} ends like a histogram`);
    const seen = new Set(samples.map((sample) => `${sample.name}${JSON.stringify(sample.labels)}`));
    if (seen.size < samples.length) complaints.push(`${name} has a series twice`);
    if (samples.length > 1_000) complaints.push(`${name} has ${samples.length} series`);
    return complaints;
  });
}

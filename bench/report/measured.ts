// Owns the table of README.md that tells what was measured: each row is made from kept results, so that no figure stands
// there that no run has given.
import type { Figures } from "../benchmark.ts";
import type { Results } from "./results.ts";

interface Row {
  readonly figure: string;
  /** Of this benchmark. */
  readonly of: string;
  readonly value: (tell: Tell) => string;
}

type Tell = Readonly<Record<"count" | "ms" | "ratio" | "mb", (name: string) => string>>;

const rows: readonly Row[] = [
  {
    figure: "registered models, and how many fit at once",
    of: "start",
    value: (t) => `${t.count("models")}; ${t.count("capacityModels")}`,
  },
  {
    figure: "requests, failed, wrong",
    of: "start",
    value: (t) => `${t.count("requests")}; ${t.count("failed")}; ${t.count("wrong")}`,
  },
  { figure: "hits, p50 and p99", of: "start", value: (t) => `${t.count("hits")}; ${t.ms("hitP50Ms")}, ${t.ms("hitP99Ms")}` },
  {
    figure: "misses, p50 and p99",
    of: "start",
    value: (t) => `${t.count("misses")}; ${t.ms("missP50Ms")}, ${t.ms("missP99Ms")}`,
  },
  { figure: "evictions", of: "start", value: (t) => t.count("evictions") },
  { figure: "requests handled by JavaScript (equals the misses)", of: "start", value: (t) => t.count("javascriptRequests") },
  {
    figure: "Envoy CPU per hit over a static route, REST",
    of: "hit",
    value: (t) => `${t.ratio("envoyCpuRatio")} (rounds from ${t.ratio("envoyCpuRatioLow")} to ${t.ratio("envoyCpuRatioHigh")})`,
  },
  {
    figure: "hits a second: Warmpath, static route, straight to the model server",
    of: "hit",
    value: (t) => `${t.count("hitRps")}; ${t.count("staticRps")}; ${t.count("directRps")}`,
  },
  {
    figure: "p50 of a hit: Warmpath, static route, straight",
    of: "hit",
    value: (t) => `${t.ms("hitP50Ms")}; ${t.ms("staticP50Ms")}; ${t.ms("directP50Ms")}`,
  },
  { figure: "p99 of a hit: Warmpath, static route", of: "hit", value: (t) => `${t.ms("hitP99Ms")}; ${t.ms("staticP99Ms")}` },
  {
    figure: "Envoy CPU per gRPC hit over a static route (the name is read from the message)",
    of: "hit",
    value: (t) => t.ratio("grpcEnvoyCpuRatio"),
  },
  {
    figure: "Envoy CPU per hit with one of a hundred traced, over none",
    of: "tracing",
    value: (t) => t.ratio("envoyCpuRatioHundredth"),
  },
  {
    figure: "a miss beyond the load itself, p50 and p99",
    of: "miss",
    value: (t) => `${t.ms("overheadP50Ms")}; ${t.ms("overheadP99Ms")}`,
  },
  {
    figure: "requests waiting at once on one gateway, not answered",
    of: "miss",
    value: (t) => `${t.count("parkedMax")}; ${t.count("parkedFailed")}`,
  },
  { figure: "misses, errors", of: "miss", value: (t) => `${t.count("misses")}; ${t.count("failed")}` },
  { figure: "a thousand cold models at once: time over the ideal", of: "storm", value: (t) => t.ratio("timeOverIdeal") },
  {
    figure: "p99 of hot requests meanwhile, over that without the storm: with processors of their own, with shared ones",
    of: "storm",
    value: (t) => `${t.ratio("hotP99Ratio")}; ${t.ratio("hotP99RatioShared")}`,
  },
  {
    figure: "Envoy's memory for one of so many warm models",
    of: "scale",
    value: (t) => `${t.count("envoyBytesPerModel")} bytes; ${t.count("models")}`,
  },
  {
    figure: "gateway's memory, so many warm of so many registered",
    of: "scale",
    value: (t) => `${t.mb("gatewayRssBytes")}; ${t.count("models")}; ${t.count("registered")}`,
  },
  {
    figure: "from a change to Envoy's acknowledgement then, p50 and p99",
    of: "scale",
    value: (t) => `${t.ms("changeToAckP50Ms")}; ${t.ms("changeToAckP99Ms")}`,
  },
  {
    figure: "requests while parts of the fleet die, stand still or forget; failed",
    of: "faults",
    value: (t) => `${t.count("requests")}; ${t.count("failed")}`,
  },
  {
    figure: "InferenceServices at once; writes to the API server for each; the controller's memory",
    of: "controller",
    value: (t) => `${t.count("objects")}; ${t.ratio("writesPerObject")}; ${t.mb("rssBytes")}`,
  },
  {
    figure: "a request that wakes a runtime without pods, until its answer; the longest, in seconds",
    of: "wake",
    value: (t) => `${t.ratio("wakeSeconds")}; ${t.ratio("wakeSecondsMost")}`,
  },
];

const head = "## Measured\n";
const tableForm = /^\|[^]*?(?=\n\n)/m;

/** The README with its table made anew. */
export function replaceMeasured(readme: string, results: Results): string {
  const at = readme.indexOf(head);
  if (at < 0) throw new Error("README.md has no part Measured");
  const part = readme.slice(at);
  return readme.slice(0, at) + part.replace(tableForm, () => buildMeasured(results));
}

/** Rows of benchmarks that have not been run are left out; so are those of quick runs. */
export function buildMeasured(results: Results): string {
  const lines = rows.flatMap(({ figure, of, value }) => {
    const run = results.runs[of];
    return run === undefined || run.isQuick ? [] : [[figure, value(tellOf(run.figures, of)), `\`${run.command}\``]];
  });
  return formatMarkdownTable([["figure", "value", "command"], ["machine", describeMachines(results), ""], ...lines]);
}

function describeMachines({ runs }: Results): string {
  const told = Object.values(runs).filter(({ isQuick }) => !isQuick);
  const machines = told.map(
    ({ machine }) => `${machine.processors} processors of ${machine.processor}, ${Math.round(machine.memoryBytes / 2 ** 30)} GiB`,
  );
  const days = told.map(({ at }) => at.slice(0, 10)).toSorted();
  const [first, last] = [days[0] ?? "", days.at(-1) ?? ""];
  return `${[...new Set(machines)].join("; ")}; ${first === last ? first : `${first} to ${last}`}`;
}

function tellOf(figures: Figures, of: string): Tell {
  const read = (name: string): number => {
    const value = figures[name];
    if (typeof value !== "number") throw new Error(`the results of ${of} have no figure ${name}`);
    return value;
  };
  return {
    count: (name) => read(name).toLocaleString("en-US", { maximumFractionDigits: 0 }),
    ms: (name) => `${Number(read(name).toPrecision(2))} ms`,
    ratio: (name) => read(name).toFixed(2),
    mb: (name) => `${Math.round(read(name) / 1e6).toLocaleString("en-US")} MB`,
  };
}

function formatMarkdownTable(cells: readonly (readonly string[])[]): string {
  const widths = (cells[0] ?? []).map((_, at) => Math.max(...cells.map((row) => row[at]?.length ?? 0)));
  const line = (row: readonly string[]): string => `| ${row.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join(" | ")} |`;
  const [first = [], ...rest] = cells;
  return [line(first), `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`, ...rest.map(line)].join("\n");
}

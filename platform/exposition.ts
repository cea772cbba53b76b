// Owns the text of a scrape, in Prometheus' own format and in OpenMetrics. Pure.
// Bucket bounds are written alike in both (`1.0`), so that a server which changes the format keeps its series.
// Spec: prometheus.io/docs/instrumenting/exposition_formats, OpenMetrics 1.0.

export type Format = "text" | "openmetrics";

export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string | number>>;
  readonly value: number;
  /** A trace that shows such a value; written in OpenMetrics only. */
  readonly exemplar?: { readonly labels: Readonly<Record<string, string>>; readonly value: number; readonly atSeconds: number };
}

export interface Family {
  readonly kind: "counter" | "gauge" | "histogram";
  readonly name: string;
  readonly help: string;
  readonly samples: readonly Sample[];
}

export const contentTypes: Readonly<Record<Format, string>> = {
  text: "text/plain; version=0.0.4; charset=utf-8",
  openmetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8",
};

/** What a scraper's Accept header likes best; `text` when it does not say. */
export function chooseFormat(accept: string | undefined): Format {
  let best: { format: Format; quality: number } = { format: "text", quality: 0 };
  for (const part of (accept ?? "").split(",").slice(0, 32)) {
    const [type = "", ...parameters] = part.split(";").map((text) => text.trim().toLowerCase());
    const given = parameters.find((parameter) => parameter.startsWith("q="))?.slice(2) ?? "1";
    const quality = Number(given);
    const format = type === "application/openmetrics-text" ? "openmetrics" : type === "text/plain" ? "text" : undefined;
    if (format !== undefined && quality > best.quality) best = { format, quality };
  }
  return best.format;
}

export function buildExposition(families: readonly Family[], format: Format): string {
  const lines: string[] = [];
  for (const family of families) {
    if (family.samples.length === 0) continue;
    const { name, kind } = head(family, format);
    lines.push(`# HELP ${name} ${escapeHelp(family.help, format)}`, `# TYPE ${name} ${kind}`);
    for (const sample of family.samples) lines.push(line(sample, format));
  }
  if (format === "openmetrics") lines.push("# EOF");
  return `${lines.join("\n")}\n`;
}

/** OpenMetrics names a counter's family without `_total`, and knows no counter without it. */
function head({ name, kind }: Family, format: Format): { readonly name: string; readonly kind: string } {
  if (format === "text" || kind !== "counter") return { name, kind };
  return name.endsWith("_total") ? { name: name.slice(0, -"_total".length), kind } : { name, kind: "unknown" };
}

function line({ name, labels, value, exemplar }: Sample, format: Format): string {
  const text = `${name}${labelSet(labels)} ${number(value)}`;
  if (format === "text" || exemplar === undefined) return text;
  return `${text} # ${labelSet(exemplar.labels) || "{}"} ${number(exemplar.value)} ${exemplar.atSeconds}`;
}

function labelSet(labels: Sample["labels"]): string {
  const parts = Object.entries(labels).map(
    ([label, value]) => `${label}="${typeof value === "number" ? bound(value) : escapeValue(value)}"`,
  );
  return parts.length === 0 ? "" : `{${parts.join(",")}}`;
}

function number(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "+Inf" : "-Inf";
  return `${value}`;
}

/** As OpenMetrics wants it: `0.5`, `1.0`, `1e+06`. */
function bound(value: number): string {
  if (!Number.isInteger(value)) return number(value);
  if (Math.abs(value) < 1e6) return `${value}.0`;
  const [mantissa = "", exponent = ""] = value.toExponential().split("e+");
  return `${mantissa}e+${exponent.padStart(2, "0")}`;
}

function escapeValue(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll('"', '\\"');
}

function escapeHelp(text: string, format: Format): string {
  const escaped = text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
  return format === "openmetrics" ? escaped.replaceAll('"', '\\"') : escaped;
}

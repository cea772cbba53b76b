// Owns how a plot is drawn, as SVG that takes its colours from the page around it. Pure.
import type { Axis, Plot } from "../plot.ts";

const width = 760;
const height = 300;
const left = 62;
const right = 30;
const top = 14;
const bottom = 46;
const inner = { width: width - left - right, height: height - top - bottom };

interface Scale {
  /** 0 to 1. */
  place(value: number): number;
  readonly ticks: readonly (readonly [value: number, label: string])[];
}

export function drawPlot(plot: Plot): string {
  const all = plot.lines.flatMap(({ points }) => points);
  const x = scaleOf(
    plot.x,
    all.map(([value]) => value),
  );
  const y = scaleOf(
    plot.y,
    all.map(([, value]) => value),
  );
  const px = (value: number): string => fixed(left + x.place(value) * inner.width);
  const py = (value: number): string => fixed(top + (1 - y.place(value)) * inner.height);
  const grid = y.ticks.map(
    ([value, label]) =>
      `<path class="grid" d="M${left} ${py(value)}h${inner.width}"/><text x="${left - 8}" y="${py(value)}" dy="0.32em" text-anchor="end">${escape(label)}</text>`,
  );
  const marks = x.ticks.map(
    ([value, label]) =>
      `<path class="grid" d="M${px(value)} ${top}v${inner.height}"/><text x="${px(value)}" y="${height - bottom + 16}" text-anchor="middle">${escape(label)}</text>`,
  );
  const lines = plot.lines.map(({ points, isReference = false }, at) => {
    const path = points.map(([a, b], step) => `${step === 0 ? "M" : "L"}${px(a)} ${py(b)}`).join("");
    return `<path class="line c${at % 6}${isReference ? " reference" : ""}" d="${path}"/>`;
  });
  const axes = `<path class="axis" d="M${left} ${top}v${inner.height}h${inner.width}"/>`;
  const labels = `<text x="${left + inner.width}" y="${height - 8}" text-anchor="end">${escape(plot.x.label)}</text><text x="${left}" y="${height - 8}">↑ ${escape(plot.y.label)}</text>`;
  const legend = plot.lines.map(
    ({ name, isReference = false }, at) =>
      `<li><svg viewBox="0 0 24 8" aria-hidden="true"><path class="line c${at % 6}${isReference ? " reference" : ""}" d="M0 4h24"/></svg>${escape(name)}</li>`,
  );
  return [
    `<figure class="plot"><figcaption>${escape(plot.title)}</figcaption>`,
    `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escape(describe(plot))}">${[...grid, ...marks].join("")}${axes}${lines.join("")}${labels}</svg>`,
    `<ul class="legend">${legend.join("")}</ul></figure>`,
  ].join("\n");
}

/** What the picture shows, for whoever does not see it: where each line ends. */
function describe({ title, x, y, lines }: Plot): string {
  const ends = lines.map(({ name, points }) => {
    const [a, b] = points.at(-1) ?? [Number.NaN, Number.NaN];
    return `${name} ends at ${x.scale === "tail" ? percent(a) : fixed(a)}, ${fixed(b)}`;
  });
  return `${title}. ${x.label} against ${y.label}. ${ends.join("; ")}.`;
}

function scaleOf(axis: Axis, values: readonly number[]): Scale {
  const finite = values.filter(Number.isFinite);
  const [low, high] = finite.length === 0 ? [0, 1] : [least(finite), most(finite)];
  if (axis.scale === "tail") return tailScale(high);
  return axis.scale === "log" ? logScale(low, high) : linearScale(low, high);
}

/** A spread of a hundred thousand values is too many for the arguments of one call. */
function least(values: readonly number[]): number {
  return values.reduce((a, b) => Math.min(a, b));
}

function most(values: readonly number[]): number {
  return values.reduce((a, b) => Math.max(a, b));
}

function tailScale(high: number): Scale {
  const depth = (share: number): number => -Math.log10(Math.max(1e-6, 1 - share));
  const end = Math.max(0.1, depth(Math.min(high, 0.99999)));
  const shares = [0, 0.5, 0.9, 0.99, 0.999, 0.9999];
  return {
    place: (share) => Math.min(1, depth(share) / end),
    ticks: shares.filter((share) => depth(share) <= end + 1e-9).map((share) => [share, percent(share)]),
  };
}

function logScale(low: number, high: number): Scale {
  const from = Math.floor(Math.log10(Math.max(1e-6, low)) + 1e-9);
  const to = Math.max(from + 1, Math.ceil(Math.log10(Math.max(1e-6, high)) - 1e-9));
  const factors = to - from > 3 ? [1] : [1, 2, 5];
  const ticks = Array.from({ length: to - from + 1 }, (_, step) => 10 ** (from + step)).flatMap((decade) =>
    factors.map((factor) => decade * factor).filter((value) => value <= 10 ** to * 1.0001),
  );
  return {
    place: (value) => (Math.log10(Math.max(10 ** from, value)) - from) / (to - from),
    ticks: ticks.map((value) => [value, short(value)]),
  };
}

function linearScale(low: number, high: number): Scale {
  const from = Math.min(0, low);
  const span = Math.max(1e-9, high - from);
  const rough = 10 ** Math.floor(Math.log10(span / 5));
  const step = [1, 2, 5, 10].map((factor) => factor * rough).find((size) => span / size <= 6) ?? span;
  const first = Math.ceil(from / step) * step;
  const end = Math.max(high, Math.ceil(high / step) * step, from + step);
  const count = Math.floor((end - first) / step + 1e-9) + 1;
  return {
    place: (value) => (value - from) / (end - from),
    ticks: Array.from({ length: count }, (_, at) => [first + at * step, short(first + at * step)]),
  };
}

function percent(share: number): string {
  return `${fixed(share * 100)} %`;
}

function short(value: number): string {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6) return `${fixed(value / 1e6)}M`;
  if (size >= 1e4) return `${fixed(value / 1e3)}k`;
  return String(Number(value.toPrecision(3)));
}

function fixed(value: number): string {
  return String(Math.round(value * 100) / 100);
}

export function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}

/** For pages that show plots. */
export const plotStyle = `
.plot { margin: 20px 0; padding: 14px 16px; border: 1px solid var(--line); border-radius: 10px; background: var(--card); }
.plot figcaption { font-weight: 600; margin-bottom: 6px; }
.plot > svg { display: block; width: 100%; height: auto; font: 12px system-ui, sans-serif; fill: var(--soft); }
.plot .grid { stroke: var(--line); fill: none; }
.plot .axis { stroke: var(--soft); fill: none; }
.plot .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.plot .reference { stroke-dasharray: 5 4; }
.plot .c0 { stroke: light-dark(#b3400c, #f4a261); }
.plot .c1 { stroke: light-dark(#1f5fa8, #6fb1f2); }
.plot .c2 { stroke: light-dark(#1a7f47, #58c98b); }
.plot .c3 { stroke: light-dark(#7a4fb5, #b495ea); }
.plot .c4 { stroke: light-dark(#8a6d00, #e3c454); }
.plot .c5 { stroke: light-dark(#5a616d, #a3abb8); }
.plot .legend { display: flex; flex-wrap: wrap; gap: 4px 18px; list-style: none; margin: 8px 0 0; padding: 0; font-size: 14px; }
.plot .legend svg { width: 24px; height: 8px; margin-right: 6px; vertical-align: middle; }
`;

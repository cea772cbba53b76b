// Owns the report of a simulation: figures and three plots as one SVG, without a library.
import type { SimReport } from "./fleet.ts";

const width = 720;
const height = 160;
const gap = 50;

/** Misses per second, ages of the oldest copies, and requests per second of pods, over time: median with the 10th and 90th percentile. */
export function formatReport(report: SimReport): string {
  const { samples } = report;
  const plots = [
    plot(
      "misses per second",
      samples.map(({ atMs, misses }, at) => ({
        atMs,
        values: [rate(misses, samples[at - 1]?.misses, atMs, samples[at - 1]?.atMs)],
      })),
    ),
    plot(
      "cache age of full pods, seconds: p10, median, p90",
      samples.map(({ atMs, cacheAgesMs }) => ({ atMs, values: spread(cacheAgesMs, 1_000) })),
    ),
    plot(
      "requests per second and pod: p10, median, p90",
      samples.map(({ atMs, podRates }) => ({ atMs, values: spread(podRates, 1) })),
    ),
  ];
  const all = plots.map((lines, at) => `<g transform="translate(60 ${at * (height + gap) + 30})">${lines}</g>`).join("\n");
  const size = `width="${width + 80}" height="${plots.length * (height + gap) + 20}"`;
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size} font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n${all}\n</svg>\n`;
}

interface Point {
  readonly atMs: number;
  readonly values: readonly number[];
}

function plot(title: string, points: readonly Point[]): string {
  const last = Math.max(1, points.at(-1)?.atMs ?? 1);
  const most = Math.max(1e-9, ...points.flatMap(({ values }) => values));
  const lines = (points[0]?.values ?? []).map((_, line) => {
    const places = points.map(
      ({ atMs, values }) => `${fixed((atMs / last) * width)},${fixed(height - ((values[line] ?? 0) / most) * height)}`,
    );
    return `<polyline fill="none" stroke="#1f5fa8" stroke-opacity="${line === 1 || points[0]?.values.length === 1 ? 1 : 0.4}" points="${places.join(" ")}"/>`;
  });
  const axis = `<path d="M0 0V${height}H${width}" fill="none" stroke="#888"/>`;
  const labels = `<text x="0" y="-8">${title}</text><text x="-6" y="10" text-anchor="end">${fixed(most)}</text><text x="-6" y="${height}" text-anchor="end">0</text>`;
  return `${axis}${labels}${lines.join("")}<text x="${width}" y="${height + 16}" text-anchor="end">${fixed(last / 1_000)} s</text>`;
}

/** The value below which the part `q` of a sorted list lies. */
export function quantileOf(sorted: readonly number[], q: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? 0;
}

function spread(sorted: readonly number[], unit: number): readonly number[] {
  return [0.1, 0.5, 0.9].map((q) => quantileOf(sorted, q) / unit);
}

function rate(count: number, before = 0, atMs: number, beforeMs = 0): number {
  return ((count - before) * 1_000) / Math.max(1, atMs - beforeMs);
}

function fixed(value: number): string {
  return String(Math.round(value * 100) / 100);
}

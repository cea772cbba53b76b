// Owns what a benchmark is: a name, an explanation of each figure, and a run that gives the figures, and plots beside them.
import type { Plot } from "./plot.ts";

/** Figures by name; those of parts, such as of one size, under the part's name. */
export interface Figures {
  readonly [name: string]: number | Figures;
}

export interface BenchmarkContext {
  readonly envoyBinary: string;
  readonly libraryFolder: string;
  readonly rounds: number;
  /** How many models are warm. */
  readonly models: number;
  /** How many cold requests are measured. */
  readonly misses: number;
  /** How many requests each fault has to bear, at least. */
  readonly requests: number;
  /** How many objects the controller gets. */
  readonly objects: number;
  /** Smaller, for a first look: what is told then is no measurement to be quoted. */
  readonly quick: boolean;
  /** Tells how far it is. */
  readonly say: (line: string) => void;
  /** For the report. */
  readonly keep: (plot: Plot) => void;
}

export interface Benchmark {
  readonly name: string;
  /** What a user runs to see the same, when that is not the benchmark itself. */
  readonly command?: string;
  /** One line. */
  readonly summary: string;
  /** Every figure of the report, explained in one line. */
  readonly figures: Readonly<Record<string, string>>;
  /** What it starts ends with the stack. */
  run(context: BenchmarkContext, signal: AbortSignal, stack: AsyncDisposableStack): Promise<Figures>;
}

export function formatFigures({ figures }: Benchmark, values: Figures = {}): string {
  const width = Math.max(...Object.keys(figures).map((name) => name.length));
  return Object.entries(figures)
    .map(([name, meaning]) => {
      const value = values[name];
      return `  ${name.padEnd(width)}  ${typeof value !== "number" ? "" : `${String(value).padStart(9)}  `}${meaning}`;
    })
    .join("\n");
}

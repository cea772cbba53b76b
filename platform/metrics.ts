// Owns metrics: definitions as data, from which instruments, scrapes and docs/metrics.md are made.
// Invariants: a label's values come from a closed list, except one that is declared open and whose number of values the
// owner bounds; every closed combination of a counter or histogram exists from the start, at 0; a scrape reads what is
// there and asks nobody for longer than collectTimeoutMs; recording never throws.
// prom-client keeps the values. The text is written by exposition.ts, since prom-client's own OpenMetrics writer renames
// counters for good and knows no aliases.
import { Counter, type CounterConfiguration, Gauge, Histogram } from "prom-client";
import { errorMessage } from "#core/errors.ts";
import { buildExposition, type Family, type Format, type Sample } from "./exposition.ts";
import type { Log } from "./log.ts";

/** Each label with the values that it can have; "open" for one whose values are bounded by whoever records. */
export type LabelDomains = Readonly<Record<string, readonly string[] | "open">>;

/** Another name for the same thing, summed over the labels. */
export interface Alias {
  readonly name: string;
  /** Its unit in ours: 1,000 for milliseconds of seconds. 1 when absent. */
  readonly scale?: number;
  /** Only what has one of these values of a label. */
  readonly only?: Readonly<Record<string, readonly string[]>>;
}

interface Definition<Domains extends LabelDomains> {
  readonly name: string;
  readonly help: string;
  readonly labels: Domains;
  readonly alias: Alias | undefined;
}

export interface CounterDefinition<Domains extends LabelDomains = LabelDomains> extends Definition<Domains> {
  readonly kind: "counter";
}

export interface GaugeDefinition<Domains extends LabelDomains = LabelDomains> extends Definition<Domains> {
  readonly kind: "gauge";
}

export interface HistogramDefinition<Domains extends LabelDomains = LabelDomains> extends Definition<Domains> {
  readonly kind: "histogram";
  readonly buckets: readonly number[];
}

export type AnyDefinition = CounterDefinition | GaugeDefinition | HistogramDefinition;
export type Definitions = Readonly<Record<string, AnyDefinition>>;

interface More<Domains extends LabelDomains> {
  readonly labels?: Domains;
  readonly alias?: Alias;
}

interface NoLabels extends LabelDomains {
  readonly [label: string]: never;
}

export function counter<const Domains extends LabelDomains = NoLabels>(
  name: string,
  help: string,
  more: More<Domains> = {},
): CounterDefinition<Domains> {
  return { kind: "counter", ...described(name, help, more) };
}

export function gauge<const Domains extends LabelDomains = NoLabels>(
  name: string,
  help: string,
  more: More<Domains> = {},
): GaugeDefinition<Domains> {
  return { kind: "gauge", ...described(name, help, more) };
}

export function histogram<const Domains extends LabelDomains = NoLabels>(
  name: string,
  help: string,
  buckets: readonly number[],
  more: More<Domains> = {},
): HistogramDefinition<Domains> {
  return { kind: "histogram", buckets, ...described(name, help, more) };
}

function described<Domains extends LabelDomains>(name: string, help: string, more: More<Domains>): Definition<Domains> {
  // Without labels the domains are the empty object, whatever the type parameter was inferred as.
  const labels = more.labels ?? ({} as Domains);
  return { name, help, labels, alias: more.alias };
}

/** From 100 us to 100 s: what a hit takes, and what a load of a large model takes. */
export const secondsBuckets: readonly number[] = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 100,
];

/** From 1 s to a month. */
export const ageBuckets: readonly number[] = [1, 10, 60, 300, 900, 3_600, 10_800, 43_200, 86_400, 604_800, 2_592_000];

export const bytesBuckets: readonly number[] = Array.from({ length: 12 }, (_, at) => 4 ** at * 16_384);

export type LabelsOf<Domains extends LabelDomains> = {
  readonly [Label in keyof Domains]: Domains[Label] extends readonly (infer Value)[] ? Value : string;
};

export interface CounterInstrument<Labels> {
  add(labels: Labels, by?: number): void;
  /** For a counter that is kept elsewhere. */
  set(labels: Labels, total: number): void;
  remove(labels: Labels): void;
}

export interface GaugeInstrument<Labels> {
  set(labels: Labels, value: number): void;
  remove(labels: Labels): void;
}

/** A distribution that is kept elsewhere. */
export interface Distribution {
  readonly count: number;
  readonly sum: number;
  /** How much of it is at most this. */
  atMost(value: number): number;
}

export interface HistogramInstrument<Labels> {
  /** `traceId`: of a trace that shows such a value. */
  record(labels: Labels, value: number, traceId?: string): void;
  replace(labels: Labels, distribution: Distribution): void;
}

export type InstrumentOf<Of> =
  Of extends CounterDefinition<infer Domains>
    ? CounterInstrument<LabelsOf<Domains>>
    : Of extends GaugeDefinition<infer Domains>
      ? GaugeInstrument<LabelsOf<Domains>>
      : Of extends HistogramDefinition<infer Domains>
        ? HistogramInstrument<LabelsOf<Domains>>
        : never;

export type Instruments<Defined extends Definitions> = { readonly [Name in keyof Defined]: InstrumentOf<Defined[Name]> };

export interface Metrics<Defined extends Definitions> extends Scrapable {
  readonly of: Instruments<Defined>;
}

export interface Scrapable {
  /** Called at each scrape, to bring up to date what is not recorded as it happens. */
  onCollect(collect: () => void | Promise<void>): void;
  render(format: Format): Promise<string>;
}

export interface MetricsOptions {
  /** Also under the names that ModelMesh had. */
  readonly aliases?: boolean;
  readonly log: Log;
  /** Families that others keep, such as those of the process. */
  readonly more?: () => Promise<readonly Family[]>;
}

const collectTimeoutMs = 2_000;

export function createMetrics<const Defined extends Definitions>(
  definitions: Defined,
  options: MetricsOptions,
): Metrics<Defined> {
  const kept = Object.entries(definitions).map(([key, definition]) => [key, keep(definition)] as const);
  const collectors: (() => void | Promise<void>)[] = [];
  let collecting: Promise<void> | undefined;

  async function collect(): Promise<void> {
    const { promise: late, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, collectTimeoutMs);
    const work = collectors.map(async (each) => {
      try {
        await each();
      } catch (error) {
        options.log.warn("a metric could not be read", { reason: errorMessage(error) });
      }
    });
    await Promise.race([Promise.all(work), late]);
    clearTimeout(timer);
  }

  return {
    // Each key has the instrument of its own definition.
    of: Object.fromEntries(kept.map(([key, { instrument }]) => [key, instrument])) as Instruments<Defined>,
    onCollect: (each) => void collectors.push(each),
    async render(format) {
      await (collecting ??= collect().finally(() => {
        collecting = undefined;
      }));
      const families: Family[] = [];
      for (const [, each] of kept) {
        const samples = await each.samples();
        families.push({ ...each.definition, samples });
        const { alias } = each.definition;
        if (options.aliases === true && alias !== undefined) families.push(aliased(each.definition, alias, samples));
      }
      return buildExposition([...families, ...((await options.more?.()) ?? [])], format);
    },
  };
}

interface Kept {
  readonly definition: AnyDefinition;
  readonly instrument: CounterInstrument<never> | GaugeInstrument<never> | HistogramInstrument<never>;
  samples(): Promise<readonly Sample[]>;
}

type Labels = Readonly<Record<string, string>>;

function keep(definition: AnyDefinition): Kept {
  const { name, help, labels } = definition;
  const config = { name, help, labelNames: Object.keys(labels), registers: [] } satisfies CounterConfiguration<string>;
  switch (definition.kind) {
    case "counter": {
      const kept = new Counter(config);
      for (const combination of combinations(labels)) kept.inc(combination, 0);
      const set = (of: Labels, total: number): void => {
        kept.remove(of);
        if (total >= 0) kept.inc(of, total);
      };
      const add = (of: Labels, by = 1): void => (by >= 0 ? kept.inc(of, by) : undefined);
      return { definition, instrument: { add, set, remove: (of: Labels) => kept.remove(of) }, samples: () => read(kept) };
    }
    case "gauge": {
      const kept = new Gauge(config);
      const set = (of: Labels, value: number): void => kept.set(of, value);
      return { definition, instrument: { set, remove: (of: Labels) => kept.remove(of) }, samples: () => read(kept) };
    }
    case "histogram":
      return keepHistogram(definition, config);
  }
}

function keepHistogram(definition: HistogramDefinition, config: { name: string; help: string; labelNames: string[] }): Kept {
  const kept = new Histogram({ ...config, registers: [], buckets: [...definition.buckets], enableExemplars: true });
  for (const combination of combinations(definition.labels)) kept.zero(combination);
  const replaced = new Map<string, readonly Sample[]>();
  const instrument: HistogramInstrument<Labels> = {
    record(labels, value, traceId) {
      if (!Number.isFinite(value)) return;
      kept.observe({ labels, value, ...(traceId === undefined ? {} : { exemplarLabels: { trace_id: traceId } }) });
    },
    replace: (labels, distribution) => void replaced.set(JSON.stringify(labels), spread(definition, labels, distribution)),
  };
  return {
    definition,
    instrument,
    samples: async () => (replaced.size > 0 ? Array.from(replaced.values()).flat() : await read(kept)),
  };
}

function spread({ name, buckets }: HistogramDefinition, labels: Labels, of: Distribution): readonly Sample[] {
  const count = Math.round(of.count);
  const bucket = (le: number, value: number): Sample => ({ name: `${name}_bucket`, labels: { ...labels, le }, value });
  return [
    ...buckets.map((le) => bucket(le, Math.min(count, Math.round(of.atMost(le))))),
    bucket(Number.POSITIVE_INFINITY, count),
    { name: `${name}_sum`, labels, value: of.sum },
    { name: `${name}_count`, labels, value: count },
  ];
}

/** Of the closed labels; none when one is open, for its values are not known before they come. */
function combinations(domains: LabelDomains): Labels[] {
  let found: Labels[] = [{}];
  for (const [label, values] of Object.entries(domains)) {
    if (values === "open") return [];
    found = found.flatMap((each) => values.map((value) => ({ ...each, [label]: value })));
  }
  return found;
}

interface PromValue {
  readonly metricName?: string;
  readonly value: number;
  readonly labels: Partial<Record<string, string | number>>;
  readonly exemplar?: { readonly labelSet?: Record<string, string>; readonly value?: number; readonly timestamp?: number } | null;
}

async function read(metric: { get(): Promise<{ name: string; values: readonly object[] }> }): Promise<readonly Sample[]> {
  const { name, values } = await metric.get();
  // prom-client's declarations leave the exemplar out.
  return (values as readonly PromValue[]).map(({ metricName, value, labels, exemplar }) => ({
    name: metricName ?? name,
    labels: Object.fromEntries(
      Object.entries(labels).flatMap(([key, of]) => (of === undefined ? [] : [[key, toBound(key, of)]])),
    ),
    value,
    ...(exemplar?.labelSet === undefined || exemplar.value === undefined || exemplar.timestamp === undefined
      ? {}
      : { exemplar: { labels: exemplar.labelSet, value: exemplar.value, atSeconds: exemplar.timestamp } }),
  }));
}

function toBound(label: string, value: string | number): string | number {
  return label === "le" && value === "+Inf" ? Number.POSITIVE_INFINITY : value;
}

/** The sum over all labels; a histogram's buckets keep their bounds, in the other unit. */
function aliased(definition: AnyDefinition, alias: Alias, samples: readonly Sample[]): Family {
  const { scale = 1, only = {} } = alias;
  const sums = new Map<string, { name: string; le: number | undefined; value: number }>();
  for (const { name, labels, value } of samples) {
    if (Object.entries(only).some(([label, values]) => !values.includes(`${labels[label]}`))) continue;
    const suffix = name.slice(definition.name.length);
    const le = typeof labels["le"] === "number" ? Number((labels["le"] * scale).toPrecision(12)) : undefined;
    const key = `${suffix} ${le}`;
    const sum = sums.get(key) ?? { name: `${alias.name}${suffix}`, le, value: 0 };
    sums.set(key, sum);
    sum.value += suffix === "_bucket" || suffix === "_count" ? value : value * scale;
  }
  return {
    kind: definition.kind,
    name: alias.name,
    help: `${definition.name} under the name that ModelMesh had.`,
    samples: Array.from(sums.values(), ({ name, le, value }) => ({ name, labels: le === undefined ? {} : { le }, value })),
  };
}

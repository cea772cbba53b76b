// Owns what the examples for autoscalers in docs/kubernetes.md ask Prometheus.
import { readFileSync } from "node:fs";
import { parse } from "yaml";

interface Example {
  readonly spec?: {
    /** Of KEDA. */
    readonly triggers?: readonly { readonly metadata: { readonly query: string } }[];
    /** Of an HPA. */
    readonly metrics?: readonly {
      readonly external: { readonly metric: { readonly name: string; readonly selector: { readonly matchLabels: object } } };
    }[];
  };
  /** Of prometheus-adapter. */
  readonly rules?: { readonly external: readonly { readonly seriesQuery: string; readonly metricsQuery: string }[] };
}

/** Expressions of PromQL, as they come to be. */
export function readAutoscalerExpressions(): readonly string[] {
  const page = readFileSync(new URL("../../docs/kubernetes.md", import.meta.url), "utf8");
  const examples = Array.from(page.matchAll(/^```yaml\n([^]*?)^```/gm), ([, text = ""]) => parse(text) as Example);
  return examples.flatMap(({ spec, rules }) => [
    ...(spec?.triggers ?? []).map(({ metadata }) => metadata.query),
    ...(spec?.metrics ?? []).map(({ external: { metric } }) => {
      const matchers = Object.entries(metric.selector.matchLabels).map(([label, value]) => `${label}="${value}"`);
      return `${metric.name}{${matchers.join()}}`;
    }),
    ...(rules?.external ?? []).flatMap(({ seriesQuery, metricsQuery }) => [
      seriesQuery,
      metricsQuery.replace("<<.Series>>{<<.LabelMatchers>>}", seriesQuery),
    ]),
  ]);
}

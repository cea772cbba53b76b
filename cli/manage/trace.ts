// Owns `warmpath trace`: where the time of slow and failed requests went, step by step, as the gateway remembers them.
import type { Command } from "commander";
import {
  addGatewayOptions,
  listOf,
  numberOf,
  type Options,
  openSession,
  recordOf,
  type Session,
  type Terminal,
  textOf,
  wholeOf,
} from "./context.ts";
import { printable } from "./table.ts";

type Fields = Readonly<Record<string, unknown>>;

interface Bar {
  readonly name: string;
  readonly depth: number;
  readonly fromMs: number;
  readonly toMs: number;
  readonly failure: string | undefined;
}

const barWidth = 40;
export const whatIsRemembered =
  "each gateway keeps the latest 64 of those that failed or waited longer than nine of ten; hits are seen by no gateway";

export function addTrace(program: Command, terminal: Terminal): void {
  addGatewayOptions(program.command("trace"))
    .description("where the time of the latest slow or failed requests went, step by step")
    .argument("[MODEL]", "only of this model; of all when absent")
    .option("--limit <N>", "at most so many (default: 1 of a model, 5 of all)")
    .action(async (model: string | undefined, options: Options) => {
      const session = openSession(terminal, options);
      const limit = wholeOf("--limit", options["limit"], 1, 64) ?? (model === undefined ? 5 : 1);
      const { body } = await session.client.ask("GET", "/api/v1/slow-requests");
      const all = listOf(body["requests"]);
      const requests = all.filter((request) => model === undefined || request["model"] === model).slice(0, limit);
      session.show({ requests }, () =>
        requests.length === 0
          ? nothing(model, all.length)
          : requests.map((request) => describeRequest(request, session)).join("\n\n"),
      );
    });
}

function nothing(model: string | undefined, others: number): string {
  const of = model === undefined ? "" : ` of ${model}`;
  const rest = others === 0 ? "" : `; there ${others === 1 ? "is one of another model" : `are ${others} of other models`}`;
  return `no slow or failed request${of} is remembered${rest}: ${whatIsRemembered}`;
}

/** The remembered request of this trace, and what is known of where its time went. */
export async function findRequest({ client }: Session, traceId: string): Promise<Fields | undefined> {
  const { body } = await client.ask("GET", "/api/v1/slow-requests");
  return listOf(body["requests"]).find((request) => request["traceId"] === traceId);
}

export function describeRequest(request: Fields, { paint, terminal }: Session): string {
  const tookMs = numberOf(request["tookMs"]) ?? 0;
  const failure = textOf(request["failure"]);
  const traceId = textOf(request["traceId"]);
  const head = [
    `${textOf(request["kind"]) ?? ""} of ${printable(textOf(request["model"]) ?? "")}`,
    new Date(numberOf(request["atMs"]) ?? 0).toISOString(),
    `took ${formatMs(tookMs)}`,
    ...(failure === undefined ? [] : [paint("red", printable(failure))]),
    ...(traceId === undefined ? [] : [`trace ${printable(traceId)}`]),
  ];
  const bars = barsOf(listOf(request["steps"]), tookMs);
  const nameWidth = Math.min(48, Math.max(...bars.map(({ name, depth }) => name.length + 2 * depth), 0));
  const width = Math.max(10, Math.min(barWidth, terminal.width - nameWidth - 16));
  const lines = bars.map((bar) => {
    const name = `${"  ".repeat(bar.depth)}${bar.name}`.slice(0, nameWidth).padEnd(nameWidth);
    const line = `  ${name}  ${drawBar(bar, tookMs, width)}  ${formatMs(bar.toMs - bar.fromMs).padStart(8)}`;
    return bar.failure === undefined ? line : `${line}  ${paint("red", printable(bar.failure))}`;
  });
  return [head.join(", "), ...lines].join("\n");
}

/** What a pod was asked for has two parts: its queue, and the load itself. */
function barsOf(steps: readonly Fields[], tookMs: number): readonly Bar[] {
  return steps.flatMap((step) => {
    const name = textOf(step["name"]) ?? "";
    const fromMs = numberOf(step["fromMs"]) ?? 0;
    const toMs = numberOf(step["toMs"]) ?? tookMs;
    const loadingMs = numberOf(step["loadingMs"]);
    const facts = recordOf(step["facts"]);
    const where = textOf(facts["pod"]) ?? textOf(facts["gateway"]);
    const of = where === undefined ? "" : `: ${printable(where)}`;
    const bar = { depth: numberOf(step["depth"]) ?? 0, failure: textOf(step["failure"]) };
    if (name !== "ask" || loadingMs === undefined) return [{ ...bar, name: `${name}${of}`, fromMs, toMs }];
    return [
      { ...bar, name: `the pod's queue${of}`, fromMs, toMs: loadingMs, failure: undefined },
      { ...bar, name: `pull and load${of}`, fromMs: loadingMs, toMs },
    ];
  });
}

function drawBar({ fromMs, toMs }: Bar, tookMs: number, width: number): string {
  const place = (ms: number): number => Math.round((Math.min(ms, tookMs) / Math.max(tookMs, 1e-9)) * width);
  const from = Math.min(place(fromMs), width - 1);
  const to = Math.max(from + 1, place(toMs));
  return `${"·".repeat(from)}${"█".repeat(to - from)}${"·".repeat(Math.max(0, width - to))}`;
}

function formatMs(ms: number): string {
  return ms < 10 ? `${ms.toFixed(1)} ms` : ms < 10_000 ? `${Math.round(ms)} ms` : `${(ms / 1_000).toFixed(1)} s`;
}

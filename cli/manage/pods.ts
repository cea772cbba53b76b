// Owns `warmpath pods`: list and drain.
import { setTimeout as delay } from "node:timers/promises";
import type { Command } from "commander";
import {
  addGatewayOptions,
  listOf,
  numberOf,
  type Options,
  openSession,
  type Session,
  type Terminal,
  textOf,
} from "./context.ts";
import { formatBytes, formatTable, paintState } from "./table.ts";
import { withProgress } from "./wait.ts";

const lookMs = 250;

export function addPods(program: Command, terminal: Terminal): void {
  const pods = program.command("pods").description("where models are held").helpOption("-h, --help", "say this");

  addGatewayOptions(pods.command("list").alias("ls"))
    .description("every pod, with its capacity and load")
    .action(async (options: Options) => {
      const session = openSession(terminal, options);
      const { body } = await session.client.ask("GET", "/api/v1/pods");
      session.show(body, () => formatPods(body, session.paint, terminal.width));
    });

  addGatewayOptions(pods.command("drain"))
    .description("empty a pod: its models move elsewhere first, then it takes no more")
    .argument("<POD>")
    .option("--wait", "until it holds nothing any more")
    .action(async (pod: string, options: Options) => {
      const session = openSession(terminal, options);
      const { body } = await session.client.ask("POST", `/api/v1/pods/${encodeURIComponent(pod)}/drain`);
      if (options["wait"] !== true) {
        session.show(body, () => `${pod} is being emptied: \`warmpath pods list\` shows how far it is`);
        return;
      }
      await untilEmpty(session, pod);
      session.show({ ...body, copies: 0 }, () => `${pod} is empty`);
    });
}

async function untilEmpty({ client, terminal }: Session, pod: string): Promise<void> {
  let whole: number | undefined;
  let left = 0;
  const emptied = async (): Promise<void> => {
    for (;;) {
      const { body } = await client.ask("GET", "/api/v1/pods");
      const found = listOf(body["pods"]).find(({ podId }) => podId === pod);
      // A pod that is gone holds nothing.
      left = numberOf(found?.["copies"]) ?? 0;
      whole ??= left;
      if (left === 0) return;
      await delay(lookMs, undefined, { signal: terminal.signal });
    }
  };
  const says = async () => ({ share: whole === undefined ? undefined : 1 - left / whole, says: `${left} copies left` });
  await withProgress(terminal, emptied(), says);
}

export function formatPods(body: Readonly<Record<string, unknown>>, paint: Session["paint"], width: number): string {
  const rows = listOf(body["pods"]).map((pod) => {
    const state = pod["reachable"] !== true ? "unreachable" : pod["draining"] === true ? "draining" : "ready";
    const used = numberOf(pod["usedBytes"]) ?? 0;
    const capacity = numberOf(pod["capacityBytes"]) ?? 0;
    return [
      textOf(pod["podId"]) ?? "",
      paintState(paint, state),
      textOf(pod["runtime"]) ?? "",
      `${numberOf(pod["copies"]) ?? 0}`,
      formatBytes(used),
      formatBytes(capacity),
      capacity === 0 ? "" : `${Math.round((used / capacity) * 100)}%`,
      `${numberOf(pod["queued"]) ?? 0}`,
      `${numberOf(pod["loading"]) ?? 0}`,
    ];
  });
  const right = true;
  return formatTable(
    [
      { head: "POD" },
      { head: "STATE" },
      { head: "RUNTIME" },
      { head: "COPIES", right },
      { head: "USED", right },
      { head: "CAPACITY", right },
      { head: "FULL", right },
      { head: "QUEUED", right },
      { head: "LOADING", right },
    ],
    rows,
    width,
  );
}

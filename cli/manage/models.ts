// Owns `warmpath models`: list, get, register, unregister, load, history.
import type { Command } from "commander";
import {
  addGatewayOptions,
  collect,
  listOf,
  modelPath,
  numberOf,
  type Options,
  openSession,
  pairsOf,
  recordOf,
  type Session,
  type Terminal,
  textOf,
  wholeOf,
} from "./context.ts";
import { CommandError } from "./failure.ts";
import { formatAge, formatBytes, formatTable, paintState, printable } from "./table.ts";
import { withProgress } from "./wait.ts";

export function addModels(program: Command, terminal: Terminal): void {
  const models = program.command("models").description("what is registered").helpOption("-h, --help", "say this");

  addGatewayOptions(models.command("list").alias("ls"))
    .description("the registered models")
    .option("--label <KEY=VALUE>", "only with this label; again and again", collect)
    .option("--tenant <TENANT>", "only of this tenant")
    .option("--state <STATE>", "only in this state: cold, loading, ready, failed")
    .option("--limit <N>", "at most so many (default: 1000)")
    .action(async (options: Options) => listModels(openSession(terminal, options), options));

  addGatewayOptions(models.command("get"))
    .description("one model: its revisions and copies")
    .argument("<MODEL>")
    .action(async (name: string, options: Options) => {
      const session = openSession(terminal, options);
      const { body } = await session.client.ask("GET", modelPath(name));
      session.show(body, () => describeModel(body, session));
    });

  addGatewayOptions(models.command("register"))
    .description("register a model; with --update, another artefact becomes active once it is loaded")
    .argument("<MODEL>")
    .requiredOption("--format <FORMAT>", "of the artefact, such as onnx")
    .requiredOption("--uri <URI>", "where the artefact lies, such as s3://bucket/path")
    .option("--format-version <VERSION>", "of the format")
    .option("--runtime <RUNTIME>", "only on pods of this runtime")
    .option("--storage-key <KEY>", "entry of the pods' storage settings")
    .option("--storage-parameter <KEY=VALUE>", "laid over that entry; again and again", collect)
    .option("--schema <PATH>", "schema file, relative to the artefact")
    .option("--require <LABEL=VALUE>", "only on pods with this label; again and again", collect)
    .option("--prefer <LABEL=VALUE>", "rather on pods with this label; again and again", collect)
    .option("--size-hint <BYTES>", "what a copy will take")
    .option("--min-copies <N>", "copies kept whatever the demand")
    .option("--max-copies <N>", "no more copies than so many")
    .option("--pinned", "copies are never evicted for others")
    .option("--priority <PRIORITY>", "of its loads: high, normal, low")
    .option("--tenant <TENANT>", "whose it is")
    .option("--label <KEY=VALUE>", "what lists select by; again and again", collect)
    .option("--update", "change the model if it is registered already")
    .action(async (name: string, options: Options) => {
      const session = openSession(terminal, options);
      const headers = options["update"] === true ? await currentEtag(session, name) : {};
      const { body, status } = await session.client.ask("PUT", modelPath(name), registrationOf(options), headers);
      const target = textOf(body["target"]);
      const done = status === 201 ? "is registered" : body["changed"] === true ? "is changed" : "is registered so already";
      session.show(body, () =>
        target === undefined ? `${name} ${done}` : `${name} ${done}: revision ${target} becomes active once it is loaded`,
      );
    });

  addGatewayOptions(models.command("unregister").alias("rm"))
    .description("unregister a model; its copies go")
    .argument("<MODEL...>")
    .action(async (names: readonly string[], options: Options) => {
      const session = openSession(terminal, options);
      for (const name of names) await session.client.ask("DELETE", modelPath(name));
      session.show({ unregistered: names }, () => names.map((name) => `${name} is not registered any more`).join("\n"));
    });

  addGatewayOptions(models.command("load"))
    .description("load copies of a model and wait until they are ready")
    .argument("<MODEL>")
    .option("--copies <N>", "how many (default: 1)")
    .option("--revision <REVISION>", "which one (default: the active one)")
    .option("--no-wait", "do not wait")
    .action(async (name: string, options: Options) => {
      const session = openSession(terminal, { timeout: "600", ...options });
      const copies = wholeOf("--copies", options["copies"], 1, 1_000) ?? 1;
      const revision = options["revision"];
      const asked = session.client.ask("POST", modelPath(name, "/load"), {
        copies,
        wait: options["wait"] !== false,
        ...(revision === undefined ? {} : { revision }),
      });
      const { body } = await withProgress(terminal, asked, async () => {
        const { body: now } = await session.client.ask("GET", modelPath(name));
        const ready = numberOf(recordOf(now["copyCounts"])["ready"]) ?? 0;
        return { share: copies === 1 ? undefined : ready / copies, says: `${ready} of ${copies} ready` };
      });
      session.show(
        body,
        () =>
          `${name}: ${numberOf(body["ready"]) ?? 0} ready, ${numberOf(body["underWay"]) ?? 0} under way, after ${Math.round(numberOf(body["waitedMs"]) ?? 0)} ms`,
      );
    });

  addGatewayOptions(models.command("history"))
    .description("what happened to a model lately, as the gateway saw it")
    .argument("<MODEL>")
    .action(async (name: string, options: Options) => {
      const session = openSession(terminal, options);
      const { body } = await session.client.ask("GET", modelPath(name, "/history"));
      session.show(body, () =>
        formatTable(
          [{ head: "TIME" }, { head: "WHAT" }, { head: "REVISION" }, { head: "POD" }, { head: "WHY" }],
          listOf(body["events"]).map((event) => [
            new Date(numberOf(event["atMs"]) ?? 0).toISOString(),
            paintState(session.paint, textOf(event["what"]) ?? ""),
            textOf(event["revision"]) ?? "",
            textOf(event["pod"]) ?? "",
            printable(textOf(event["reason"]) ?? ""),
          ]),
          terminal.width,
        ),
      );
    });
}

async function listModels(session: Session, options: Options): Promise<void> {
  const limit = wholeOf("--limit", options["limit"], 1, 1_000_000) ?? 1_000;
  const found: Readonly<Record<string, unknown>>[] = [];
  let after: string | undefined;
  do {
    const query = new URLSearchParams({ details: "true", limit: `${Math.min(500, limit - found.length)}` });
    if (after !== undefined) query.set("after", after);
    for (const option of ["tenant", "state"]) {
      const value = textOf(options[option]);
      if (value !== undefined) query.set(option, value);
    }
    const labels = options["label"];
    for (const label of Array.isArray(labels) ? labels : []) query.append("label", String(label));
    const { body } = await session.client.ask("GET", `/api/v1/models?${query.toString()}`);
    found.push(...listOf(body["models"]));
    after = textOf(body["next"]);
  } while (after !== undefined && found.length < limit);
  const rows = found.map((model) => [
    textOf(model["name"]) ?? "",
    paintState(session.paint, textOf(model["state"]) ?? ""),
    `${numberOf(recordOf(model["copyCounts"])["ready"]) ?? 0}`,
    textOf(model["active"]) ?? "",
    textOf(model["target"]) ?? "",
    textOf(model["tenant"]) ?? "",
  ]);
  const columns = [
    { head: "MODEL" },
    { head: "STATE" },
    { head: "COPIES", right: true },
    { head: "ACTIVE" },
    { head: "TARGET" },
    { head: "TENANT" },
  ];
  session.show({ models: found, more: after !== undefined }, () =>
    [
      formatTable(columns, rows, session.terminal.width),
      ...(after === undefined ? [] : [`... and more: --limit shows them`]),
    ].join("\n"),
  );
}

async function currentEtag(session: Session, name: string): Promise<Readonly<Record<string, string>>> {
  try {
    const { body } = await session.client.ask("GET", modelPath(name));
    return { "if-match": `"${textOf(body["etag"]) ?? ""}"` };
  } catch (error) {
    if (error instanceof CommandError && error.kind === "not-found") return {};
    throw error;
  }
}

function registrationOf(options: Options): Readonly<Record<string, unknown>> {
  const fields = {
    format: options["format"],
    storageUri: options["uri"],
    formatVersion: options["formatVersion"],
    runtime: options["runtime"],
    storageKey: options["storageKey"],
    storageParameters: pairsOf("--storage-parameter", options["storageParameter"]),
    schemaPath: options["schema"],
    requiredLabels: pairsOf("--require", options["require"]),
    preferredLabels: pairsOf("--prefer", options["prefer"]),
    sizeHintBytes: wholeOf("--size-hint", options["sizeHint"], 1, 2 ** 50),
    minCopies: wholeOf("--min-copies", options["minCopies"], 0, 1_000),
    maxCopies: wholeOf("--max-copies", options["maxCopies"], 1, 1_000),
    pinned: options["pinned"],
    priority: options["priority"],
    tenant: options["tenant"],
    labels: pairsOf("--label", options["label"]),
  };
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

function describeModel(body: Readonly<Record<string, unknown>>, { paint, terminal }: Session): string {
  const nowMs = Date.now();
  const failure = recordOf(body["failure"]);
  const reason = textOf(failure["reason"]);
  const head = [
    `${textOf(body["name"]) ?? ""}  ${paintState(paint, textOf(body["state"]) ?? "")}  ${paintState(paint, textOf(body["transition"]) ?? "")}`,
    ...(reason === undefined ? [] : [`target ${textOf(failure["revision"]) ?? ""} does not load: ${printable(reason)}`]),
  ];
  return [...head, "", formatRevisions(body, paint, terminal.width), "", formatCopies(body, nowMs, paint, terminal.width)].join(
    "\n",
  );
}

export function formatRevisions(body: Readonly<Record<string, unknown>>, paint: Session["paint"], width: number): string {
  const states = new Map(listOf(body["revisionStates"]).map((state) => [state["id"], state]));
  const rows = listOf(body["revisions"]).map((revision) => {
    const id = textOf(revision["id"]) ?? "";
    const state = { ...states.get(id), ...revision };
    const role = id === body["active"] ? "active" : id === body["target"] ? "target" : shareOf(body, id);
    const reason = textOf(recordOf(state["failure"])["reason"]) ?? "";
    return [
      id,
      role,
      paintState(paint, textOf(recordOf(states.get(id) ?? revision)["state"]) ?? ""),
      `${numberOf(recordOf(recordOf(states.get(id) ?? revision)["copies"])["ready"]) ?? 0}`,
      textOf(revision["format"]) ?? "",
      printable(reason === "" ? (textOf(revision["storageUri"]) ?? "") : reason),
    ];
  });
  return formatTable(
    [
      { head: "REVISION" },
      { head: "ROLE" },
      { head: "STATE" },
      { head: "COPIES", right: true },
      { head: "FORMAT" },
      { head: "ARTEFACT" },
    ],
    rows,
    width,
  );
}

function shareOf(body: Readonly<Record<string, unknown>>, id: string): string {
  const share = listOf(body["split"]).find(({ revision }) => revision === id);
  if (share !== undefined) return `${String(share["percent"])} %`;
  const mirror = recordOf(body["mirror"]);
  if (mirror["revision"] === id) return `mirror ${String(mirror["percent"])} %`;
  return listOf(body["retired"]).some(({ revision }) => revision === id) ? "retired" : "";
}

function formatCopies(body: Readonly<Record<string, unknown>>, nowMs: number, paint: Session["paint"], width: number): string {
  const rows = listOf(body["copies"]).map((copy) => {
    const sinceMs = numberOf(copy["sinceMs"]);
    return [
      textOf(copy["pod"]) ?? "",
      textOf(copy["revision"]) ?? "",
      paintState(paint, textOf(copy["state"]) ?? ""),
      formatAge(sinceMs === undefined ? undefined : nowMs - sinceMs),
      formatBytes(numberOf(copy["sizeBytes"])),
      printable(textOf(recordOf(copy["failure"])["reason"]) ?? ""),
    ];
  });
  return rows.length === 0
    ? "no copies: the next request loads one"
    : formatTable(
        [
          { head: "POD" },
          { head: "REVISION" },
          { head: "STATE" },
          { head: "FOR", right: true },
          { head: "SIZE", right: true },
          { head: "WHY" },
        ],
        rows,
        width,
      );
}

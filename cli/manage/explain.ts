// Owns `warmpath explain`: why a model is where it is, why it is not loaded, why requests waited, and of one request, by the
// id of its trace, where its time went.
import type { Command } from "commander";
import {
  addGatewayOptions,
  listOf,
  modelPath,
  type Options,
  openSession,
  recordOf,
  type Session,
  type Terminal,
  textOf,
} from "./context.ts";
import { CommandError } from "./failure.ts";
import { formatTable, printable } from "./table.ts";
import { describeRequest, findRequest, whatIsRemembered } from "./trace.ts";

/** The id of a trace, alone or in a W3C traceparent. A model may be called so as well: then it is explained when no request is found. */
const traceForm = /^(?:00-)?([0-9a-f]{32})(?:-[0-9a-f]{16}-[0-9a-f]{2})?$/i;

export function addExplain(program: Command, terminal: Terminal): void {
  addGatewayOptions(program.command("explain"))
    .description("why a model is where it is, why it is not loaded, why requests for it waited; or where one request's time went")
    .argument("<MODEL|TRACE>", "a model's name, or the id of the trace of a request that was slow or failed")
    .option("--pods", "also what speaks for and against each pod")
    .action(async (name: string, options: Options) => {
      const session = openSession(terminal, options);
      const traceId = traceForm.exec(name)?.[1]?.toLowerCase();
      const request = traceId === undefined ? undefined : await findRequest(session, traceId);
      if (request !== undefined) {
        const model = await explainModel(session, textOf(request["model"]) ?? "");
        const said = Array.isArray(model["lines"]) ? model["lines"].map((line) => printable(String(line))) : [];
        session.show({ request, model }, () => [describeRequest(request, session), "", ...said].join("\n"));
        return;
      }
      const { body } = await session.client.ask("GET", modelPath(name, "/explain")).catch((error: unknown) => {
        throw traceId !== undefined && error instanceof CommandError && error.kind === "not-found"
          ? new CommandError("not-found", `no request of the trace ${traceId} is remembered: ${whatIsRemembered}`)
          : error;
      });
      const lines = Array.isArray(body["lines"]) ? body["lines"].map((line) => printable(String(line))) : [];
      session.show(body, () =>
        [...lines, ...(options["pods"] === true ? ["", formatVerdicts(body, terminal.width)] : [])].join("\n"),
      );
    });
}

/** Nothing of one that is not registered any more. */
async function explainModel({ client }: Session, name: string): Promise<Readonly<Record<string, unknown>>> {
  try {
    return (await client.ask("GET", modelPath(name, "/explain"))).body;
  } catch (error) {
    if (error instanceof CommandError && error.kind === "not-found") return {};
    throw error;
  }
}

function formatVerdicts(body: Readonly<Record<string, unknown>>, width: number): string {
  const rows = listOf(recordOf(body["placement"])["pods"]).map((verdict) => {
    const keys = Object.entries(recordOf(verdict["keys"])).map(([key, value]) => `${key}=${String(value)}`);
    return [
      textOf(verdict["podId"]) ?? "",
      verdict["kind"] === "ranked" ? "fits" : (textOf(verdict["judge"]) ?? "refused"),
      printable(textOf(verdict["reason"]) ?? keys.join(" ")),
    ];
  });
  return formatTable([{ head: "POD" }, { head: "VERDICT" }, { head: "WHY" }], rows, width);
}

// Owns `warmpath explain`: why a model is where it is, why it is not loaded, why requests waited.
import type { Command } from "commander";
import { addGatewayOptions, listOf, modelPath, type Options, openSession, recordOf, type Terminal, textOf } from "./context.ts";
import { formatTable, printable } from "./table.ts";

export function addExplain(program: Command, terminal: Terminal): void {
  addGatewayOptions(program.command("explain"))
    .description("why a model is where it is, why it is not loaded, why requests for it waited")
    .argument("<MODEL>")
    .option("--pods", "also what speaks for and against each pod")
    .action(async (name: string, options: Options) => {
      const session = openSession(terminal, options);
      const { body } = await session.client.ask("GET", modelPath(name, "/explain"));
      const lines = Array.isArray(body["lines"]) ? body["lines"].map((line) => printable(String(line))) : [];
      session.show(body, () =>
        [...lines, ...(options["pods"] === true ? ["", formatVerdicts(body, terminal.width)] : [])].join("\n"),
      );
    });
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

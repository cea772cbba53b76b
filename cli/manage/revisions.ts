// Owns `warmpath revisions`: list, add, promote, rollback, split, mirror, remove.
import type { Command } from "commander";
import {
  addGatewayOptions,
  collect,
  modelPath,
  type Options,
  openSession,
  pairsOf,
  type Session,
  type Terminal,
  textOf,
  wholeOf,
} from "./context.ts";
import { CommandError } from "./failure.ts";
import { formatRevisions } from "./models.ts";

export function addRevisions(program: Command, terminal: Terminal): void {
  const revisions = program.command("revisions").description("what a model points at").helpOption("-h, --help", "say this");

  addGatewayOptions(revisions.command("list").alias("ls"))
    .description("the revisions of a model")
    .argument("<MODEL>")
    .action(async (name: string, options: Options) => {
      const session = openSession(terminal, options);
      const { body } = await session.client.ask("GET", modelPath(name));
      session.show(body["revisionStates"] === undefined ? body : pick(body), () =>
        formatRevisions(body, session.paint, terminal.width),
      );
    });

  addGatewayOptions(revisions.command("add"))
    .description("add a revision; it becomes active once it is loaded")
    .argument("<MODEL>")
    .requiredOption("--format <FORMAT>", "of the artefact, such as onnx")
    .requiredOption("--uri <URI>", "where the artefact lies")
    .option("--id <ID>", "what it is called (default: made from its content)")
    .option("--storage-key <KEY>", "entry of the pods' storage settings")
    .option("--storage-parameter <KEY=VALUE>", "laid over that entry; again and again", collect)
    .option("--activate <WHEN>", "when-loaded, now or never (default: when-loaded)")
    .option("--load-now", "load it though the active revision is not loaded")
    .action(async (name: string, options: Options) => {
      const body = {
        format: options["format"],
        storageUri: options["uri"],
        id: options["id"],
        storageKey: options["storageKey"],
        storageParameters: pairsOf("--storage-parameter", options["storageParameter"]),
      };
      const query = new URLSearchParams({
        activate: textOf(options["activate"]) ?? "when-loaded",
        loadNow: `${options["loadNow"] === true}`,
      });
      await change(openSession(terminal, options), "POST", name, `/revisions?${query.toString()}`, body);
    });

  addGatewayOptions(revisions.command("promote"))
    .description("move the pointer to a revision once it is loaded")
    .argument("<MODEL>")
    .argument("[REVISION]", "the target when absent")
    .option("--force", "at once, whatever is loaded")
    .action(async (name: string, revision: string | undefined, options: Options) => {
      await change(openSession(terminal, options), "POST", name, "/promote", { revision, force: options["force"] === true });
    });

  addGatewayOptions(revisions.command("rollback"))
    .description("give the target up, or go back to the revision that was active before")
    .argument("<MODEL>")
    .action(async (name: string, options: Options) => {
      await change(openSession(terminal, options), "POST", name, "/rollback", undefined);
    });

  addGatewayOptions(revisions.command("split"))
    .description("give shares of the requests to other revisions; without shares the active one gets everything")
    .argument("<MODEL>")
    .argument("[REVISION=PERCENT...]")
    .action(async (name: string, shares: readonly string[], options: Options) => {
      await change(openSession(terminal, options), "PUT", name, "/split", { split: shares.map(parseShare) });
    });

  addGatewayOptions(revisions.command("mirror"))
    .description("send copies of requests to a revision, whose answers are thrown away; without one, end it")
    .argument("<MODEL>")
    .argument("[REVISION=PERCENT]")
    .action(async (name: string, share: string | undefined, options: Options) => {
      const mirror = share === undefined ? null : parseShare(share);
      await change(openSession(terminal, options), "PUT", name, "/mirror", { mirror });
    });

  addGatewayOptions(revisions.command("remove").alias("rm"))
    .description("remove a revision that is not in use")
    .argument("<MODEL>")
    .argument("<REVISION>")
    .action(async (name: string, revision: string, options: Options) => {
      await change(openSession(terminal, options), "DELETE", name, `/revisions/${encodeURIComponent(revision)}`, undefined);
    });
}

async function change(session: Session, method: string, name: string, path: string, body: unknown): Promise<void> {
  const { body: done } = await session.client.ask(method, modelPath(name, path), body);
  const target = textOf(done["target"]);
  session.show(done, () =>
    target === undefined
      ? `${name}: ${textOf(done["active"]) ?? ""} is active`
      : `${name}: ${textOf(done["active"]) ?? ""} is active until ${target} is loaded`,
  );
}

function parseShare(text: string): { readonly revision: string; readonly percent: number } {
  const at = text.lastIndexOf("=");
  if (at < 1) throw new CommandError("usage", `a share must be REVISION=PERCENT, not '${text}'`);
  return {
    revision: text.slice(0, at),
    percent: wholeOf("a share's percent", text.slice(at + 1).replace(/%$/, ""), 1, 100) ?? 0,
  };
}

function pick({
  name,
  etag,
  active,
  target,
  transition,
  failure,
  retired,
  split,
  mirror,
  revisions,
  revisionStates,
}: Options): Options {
  return { name, etag, active, target, transition, failure, retired, split, mirror, revisions, revisionStates };
}

// Owns docs/cli.md: the commands as they are defined, so that a test can hold the page to them.
import type { Command } from "commander";
import { exitCodes } from "./failure.ts";

export function describeCommands(program: Command): string {
  const sections = leaves(program, "warmpath").map(([path, command]) => {
    const usage = `${path} ${command.usage()}`.trim();
    const options = command.options.map(({ flags, description }) => `| \`${flags.replaceAll("|", "\\|")}\` | ${description} |`);
    const alias = command.alias() === undefined ? "" : ` Also: \`${command.alias()}\`.`;
    return [
      `## ${path}`,
      "",
      `${sentence(command.description())}${alias}`,
      "",
      "```",
      usage,
      "```",
      "",
      ...(options.length === 0 ? [] : ["| option | what it does |", "| --- | --- |", ...options, ""]),
    ].join("\n");
  });
  const codes = Object.values(exitCodes).map(({ code, says }) => `| ${code} | ${says} |`);
  return ["## Exit codes", "", "| code | meaning |", "| --- | --- |", ...codes, "", ...sections].join("\n");
}

function leaves(command: Command, path: string): (readonly [string, Command])[] {
  if (command.commands.length === 0) return [[path, command]];
  return command.commands.flatMap((child) => leaves(child, `${path} ${child.name()}`));
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

// Owns `warmpath completion`: scripts for bash, zsh and fish, made from the commands themselves.
import type { Command } from "commander";
import { CommandError } from "./failure.ts";

export const shells = ["bash", "zsh", "fish"] as const;

export function addCompletion(program: Command, print: (text: string) => void): void {
  program
    .command("completion")
    .description("a script that completes commands: source <(warmpath completion bash)")
    .helpOption("-h, --help", "say this")
    .argument("<SHELL>", shells.join(", "))
    .action((shell: string) => {
      const words = listWords(program);
      if (shell === "bash") print(bashScript(words));
      else if (shell === "zsh") print(`autoload -U +X bashcompinit && bashcompinit\n${bashScript(words)}`);
      else if (shell === "fish") print(fishScript(words));
      else throw new CommandError("usage", `completion knows ${shells.join(", ")}, not '${shell}'`);
    });
}

/** "models list" -> what may follow. */
type Words = ReadonlyMap<string, readonly string[]>;

function listWords(program: Command): Words {
  const words = new Map<string, readonly string[]>();
  const visit = (command: Command, path: string): void => {
    const options = command.options.flatMap(({ long }) => (long === undefined || long === null ? [] : [long]));
    words.set(path, [...command.commands.map((child) => child.name()), ...options, "--help"]);
    for (const child of command.commands) visit(child, path === "" ? child.name() : `${path} ${child.name()}`);
  };
  visit(program, "");
  return words;
}

function bashScript(words: Words): string {
  const cases = Array.from(words, ([path, following]) => `    "${path}") words="${following.join(" ")}" ;;`);
  return `_warmpath() {
  local path="" word words=""
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$word" in -*) ;; *) case "$path" in *" "*) ;; "") path="$word" ;; *) path="$path $word" ;; esac ;; esac
  done
  case "$path" in
${cases.join("\n")}
    *) case "\${path%% *}" in
${Array.from(words)
  .filter(([path]) => path !== "" && !path.includes(" "))
  .map(([path, following]) => `      "${path}") words="${following.join(" ")}" ;;`)
  .join("\n")}
    esac ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -F _warmpath warmpath kubectl-warmpath`;
}

function fishScript(words: Words): string {
  const lines = Array.from(words, ([path, following]) => {
    const parts = path === "" ? [] : path.split(" ");
    const condition =
      parts.length === 0 ? "__fish_use_subcommand" : parts.map((part) => `__fish_seen_subcommand_from ${part}`).join("; and ");
    const plain = following.filter((word) => !word.startsWith("--"));
    const options = following.filter((word) => word.startsWith("--")).map((word) => `-l ${word.slice(2)}`);
    const base = `complete -c warmpath -f -n '${condition}'`;
    return [...(plain.length === 0 ? [] : [`${base} -a '${plain.join(" ")}'`]), ...options.map((option) => `${base} ${option}`)];
  });
  return lines.flat().join("\n");
}

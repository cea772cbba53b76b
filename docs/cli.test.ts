// docs/cli.md is held to the commands.
import { test } from "node:test";
import { describeCommands } from "#cli/manage/reference.ts";
import { buildProgram } from "#cli/program.ts";
import { holdToEnd } from "./generated.ts";

test("docs/cli.md is what the commands say", async () => {
  await using stack = new AsyncDisposableStack();
  const program = buildProgram({
    env: {},
    isTerminal: false,
    width: 120,
    print: () => undefined,
    signal: new AbortController().signal,
    stack,
    setExitCode: () => undefined,
  });
  holdToEnd("cli.md", "<!-- commands -->", describeCommands(program));
});

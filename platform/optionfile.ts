// Owns files that options name, in YAML or JSON. Apart from config.ts, so that a process without one does not load YAML.
import { readFile } from "node:fs/promises";
import { parse } from "yaml";
import type { z } from "zod";
import { errorMessage } from "#core/errors.ts";
import { parseOptions } from "./config.ts";
import { StartupError } from "./lifecycle.ts";

/** The text of the file that an option names; throws a StartupError when there is none to read. */
export async function readOptionFile(file: string, flag: string): Promise<string> {
  return await readFile(file, "utf8").catch((cause: unknown) => {
    throw new StartupError(`${flag} ${file} cannot be read`, { cause });
  });
}

/** What such a file holds, checked by a schema; throws a StartupError that says what is wrong. */
export function parseOptionFile<Schema extends z.ZodType>(
  schema: Schema,
  text: string,
  flag: string,
): Readonly<z.output<Schema>> {
  let given: unknown;
  try {
    given = parse(text, { maxAliasCount: 10 });
  } catch (cause) {
    throw new StartupError(`the file of ${flag} is no YAML: ${errorMessage(cause).split("\n", 1)[0]}`, { cause });
  }
  return parseOptions(schema, given ?? {}, `bad ${flag}`);
}

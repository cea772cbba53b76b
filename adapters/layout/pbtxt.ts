// Owns as much of the text form of protobuf as changing a config.pbtxt takes: which fields its top level has, and where
// each begins and ends. Pure. What is inside a field is kept as its author wrote it.
// https://protobuf.dev/reference/protobuf/textformat-spec/
import { type Refused, refuse } from "./plan.ts";

export interface PbtxtField {
  readonly name: string;
  /** The whole field, from its name to its end. */
  readonly text: string;
  /** What stands behind the name and colon. */
  readonly value: string;
}

export type ReadPbtxt = { readonly kind: "ok"; readonly fields: readonly PbtxtField[] } | Refused;

interface Token {
  readonly text: string;
  readonly start: number;
  readonly end: number;
}

const tokenPattern =
  /\s+|#[^\n]*|"(?:[^"\\\n]|\\[^\n])*"|'(?:[^'\\\n]|\\[^\n])*'|[A-Za-z_][A-Za-z0-9_.]*|[-+]?[0-9.][A-Za-z0-9_.+-]*|[{}[\]<>:,;/-]/y;

const closing: ReadonlyMap<string, string> = new Map([
  ["{", "}"],
  ["[", "]"],
  ["<", ">"],
]);

export function parsePbtxt(text: string): ReadPbtxt {
  const tokens = tokenize(text);
  if (tokens === undefined) return refuse("config.pbtxt has a character that is not protobuf's text form");
  const fields: PbtxtField[] = [];
  let at = 0;
  while (at < tokens.length) {
    const name = tokens[at];
    if (name === undefined || !/^[A-Za-z_]/.test(name.text))
      return refuse(`config.pbtxt has no field name at ${where(text, name)}`);
    at += 1;
    if (tokens[at]?.text === ":") at += 1;
    const first = tokens[at];
    const end = first === undefined ? undefined : endOfValue(tokens, at);
    const last = end === undefined ? undefined : tokens[end - 1];
    if (first === undefined || end === undefined || last === undefined)
      return refuse(`config.pbtxt has a field ${name.text} without an end`);
    fields.push({ name: name.text, text: text.slice(name.start, last.end), value: text.slice(first.start, last.end) });
    at = end;
    while (tokens[at]?.text === "," || tokens[at]?.text === ";") at += 1;
  }
  return { kind: "ok", fields };
}

/** A text as protobuf writes it. */
export function quote(text: string): string {
  const bytes = new TextEncoder().encode(text);
  const escaped = Array.from(bytes, (byte) => {
    const plain = byte >= 32 && byte < 127 && byte !== 34 && byte !== 92;
    return plain ? String.fromCharCode(byte) : `\\${byte.toString(8).padStart(3, "0")}`;
  });
  return `"${escaped.join("")}"`;
}

function tokenize(text: string): readonly Token[] | undefined {
  const tokens: Token[] = [];
  const pattern = new RegExp(tokenPattern);
  for (let start = 0; start < text.length; start = pattern.lastIndex) {
    pattern.lastIndex = start;
    const found = pattern.exec(text)?.[0];
    if (found === undefined) return undefined;
    if (!/^[\s#]/.test(found)) tokens.push({ text: found, start, end: start + found.length });
  }
  return tokens;
}

/** The index behind the value that begins at `at`; undefined when it has no end. */
function endOfValue(tokens: readonly Token[], at: number): number | undefined {
  const open: string[] = [];
  for (let index = at; index < tokens.length; index++) {
    const { text } = tokens[index] ?? { text: "" };
    const close = closing.get(text);
    if (close !== undefined) open.push(close);
    else if (text === "}" || text === "]" || text === ">") {
      if (open.pop() !== text) return undefined;
    }
    if (open.length > 0) continue;
    // Texts beside each other are one text.
    if (/^["']/.test(text) && /^["']/.test(tokens[index + 1]?.text ?? "")) continue;
    return /^[:,;]$/.test(text) ? undefined : index + 1;
  }
  return undefined;
}

function where(text: string, token: Token | undefined): string {
  if (token === undefined) return "its end";
  return `line ${text.slice(0, token.start).split("\n").length}`;
}

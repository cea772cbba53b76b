// Owns what may name a file inside an artefact: a path of plain parts below the artefact's folder, whoever wrote it.
// Invariants: a parsed path never leads out of the folder it is joined to; equal paths are equal texts.

export type ParsedPath = { readonly kind: "ok"; readonly path: string } | { readonly kind: "refused"; readonly reason: string };

export const maxPathBytes = 1_024;
/** What file systems take for one name. */
const maxPartBytes = 255;
const maxParts = 64;
const control = /\p{Cc}/u;

/** A relative path such as `1/model.onnx`. Leading `./` and single trailing slashes are left out, everything odd is refused. */
export function parseRelativePath(text: string): ParsedPath {
  const plain = text.replace(/^(?:\.\/)+/, "").replace(/\/$/, "");
  if (plain === "") return refuse(text, "is empty");
  if (plain.startsWith("/")) return refuse(text, "is absolute");
  if (!plain.isWellFormed()) return refuse(text, "is not well-formed Unicode");
  // A server may have decoded bytes that are no UTF-8: two names could become one.
  if (plain.includes("\uFFFD")) return refuse(text, "is not well-formed Unicode");
  if (control.test(plain)) return refuse(text, "holds a control character");
  if (plain.includes("\\")) return refuse(text, "holds a backslash");
  if (Buffer.byteLength(plain) > maxPathBytes) return refuse(text, `is longer than ${maxPathBytes} bytes`);
  const parts = plain.split("/");
  if (parts.length > maxParts) return refuse(text, `is nested more than ${maxParts} deep`);
  for (const part of parts) {
    if (part === "") return refuse(text, "has an empty part");
    if (part === "." || part === "..") return refuse(text, `has the part ${part}`);
    if (Buffer.byteLength(part) > maxPartBytes) return refuse(text, `has a part longer than ${maxPartBytes} bytes`);
  }
  return { kind: "ok", path: plain };
}

/** The last part of a path; `_model` when it has none that could name a file. */
export function baseName(path: string): string {
  const parsed = parseRelativePath(path.replace(/\/+$/, "").split("/").at(-1) ?? "");
  return parsed.kind === "ok" ? parsed.path : "_model";
}

/** For people: short, and without what could steer a terminal or break a header. */
export function showName(name: string): string {
  const shown = name.replaceAll(/[^\x20-\x7E]/gu, "?");
  return shown.length <= 120 ? shown : `${shown.slice(0, 60)}...${shown.slice(-57)}`;
}

function refuse(text: string, why: string): ParsedPath {
  return { kind: "refused", reason: `the name ${showName(text)} inside the artefact ${why}` };
}

// Owns tensors as bytes: the binary tensor extension of REST and raw contents of gRPC. Little-endian, row-major; each BYTES
// element behind its length in 4 bytes. https://github.com/kserve/open-inference-protocol
// The host is little-endian too (x86-64, arm64), so numbers are copied, never swapped.
import type { DatatypeInfo, Elements } from "./datatypes.ts";
import { badRequest, type Refusal } from "./refusal.ts";

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();

/** The elements in `bytes`, which are copied: the result is aligned and nobody else's. */
export function parseRawElements(info: DatatypeInfo, count: number, bytes: Uint8Array, what: string): Elements | Refusal {
  if (info.family === "bytes") return parseTexts(count, bytes, what);
  if (bytes.byteLength !== count * info.elementBytes) {
    return badRequest(
      `${what} has ${bytes.byteLength} bytes, but its shape and datatype ${info.name} make ${count * info.elementBytes}`,
    );
  }
  const copy = new Uint8Array(bytes.byteLength);
  copy.set(bytes);
  if (info.family !== "bool") return info.view(copy.buffer);
  for (let i = 0; i < copy.length; i++) if (copy[i] !== 0) copy[i] = 1;
  return copy;
}

function parseTexts(count: number, bytes: Uint8Array, what: string): Elements | Refusal {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const texts: string[] = [];
  let at = 0;
  while (at < bytes.byteLength) {
    if (texts.length === count || at + 4 > bytes.byteLength) break;
    const end = at + 4 + view.getUint32(at, true);
    if (end > bytes.byteLength) break;
    const text = parseText(bytes.subarray(at + 4, end), what);
    if (typeof text !== "string") return text;
    texts.push(text);
    at = end;
  }
  if (at !== bytes.byteLength || texts.length !== count) {
    return badRequest(`the bytes of ${what} are not ${count} BYTES elements, each behind its length in 4 bytes`);
  }
  return texts;
}

/** One BYTES element. ONNX Runtime's strings are UTF-8 and end at a NUL, so other bytes cannot be passed on unharmed. */
export function parseText(bytes: Uint8Array, what: string): string | Refusal {
  let text: string;
  try {
    text = decoder.decode(bytes);
  } catch {
    return badRequest(`a BYTES element of ${what} is not UTF-8, which a string tensor of ONNX has to be`);
  }
  return checkText(text, what) ?? text;
}

export function checkText(text: string, what: string): Refusal | undefined {
  if (text.includes("\0")) return badRequest(`a BYTES element of ${what} holds a NUL, which a string tensor cannot carry`);
  if (!text.isWellFormed()) return badRequest(`a BYTES element of ${what} is not well-formed Unicode`);
  return undefined;
}

/** A view of the elements where they are numbers, a new buffer where they are texts. */
export function buildRawBytes(elements: Elements): Uint8Array {
  if (ArrayBuffer.isView(elements)) return new Uint8Array(elements.buffer, elements.byteOffset, elements.byteLength);
  const texts = elements.map((text) => encoder.encode(text));
  const bytes = new Uint8Array(texts.reduce((sum, text) => sum + 4 + text.byteLength, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const text of texts) {
    view.setUint32(at, text.byteLength, true);
    bytes.set(text, at + 4);
    at += 4 + text.byteLength;
  }
  return bytes;
}

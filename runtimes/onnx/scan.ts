// Owns what can be told of a model file without building it: a walk over the wire format of ONNX that reads the lengths
// of its parts and skips their contents. It is a hint for sizes.ts, never a check: ONNX Runtime alone decides what is valid.
// Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
import { type FileHandle, open, stat } from "node:fs/promises";
import { setImmediate as turn } from "node:timers/promises";
import { isSteady } from "./operators.ts";

export interface ModelFacts {
  readonly fileBytes: number;
  readonly nodes: number;
  /** Bytes of weights, as initializers or as constants. */
  readonly weightBytes: number;
  /** Bytes of tree ensembles, whose nodes are attributes. */
  readonly treeBytes: number;
  /** Whether the time of every operator follows from the sizes of weights and inputs (operators.ts). */
  readonly steady: boolean;
  /** Whether there are weights in other files: of these the sizes say nothing. */
  readonly external: boolean;
}

const windowBytes = 64 * 1024;
/** So many parts are walked in one turn of the event loop: some hundredths of a millisecond each. */
const partsPerTurn = 50;

/** Which file stands at the path, and of what age: another text means other contents. Undefined when there is none. */
export async function identifyFile(path: string): Promise<string | undefined> {
  const found = await stat(path, { bigint: true }).catch(() => undefined);
  return found === undefined ? undefined : `${found.dev}:${found.ino}:${found.size}:${found.mtimeNs}`;
}

/** Facts of the file at `path`; what cannot be walked counts as weights. Rejects as opening and reading a file do. */
export async function scanModelFile(path: string): Promise<ModelFacts> {
  await using file = await open(path, "r");
  const { size } = await file.stat();
  const reader = createReader(file, size);
  const facts = { nodes: 0, weightBytes: 0, treeBytes: 0, steady: true, external: false };
  let parts = 0;
  try {
    await walk(reader, 0, size, async (field, from, to) => {
      if (field !== 7) return;
      await walk(reader, from, to, async (inGraph, start, end) => {
        parts += 1;
        if (parts % partsPerTurn === 0) await turn();
        if (inGraph === 5 || inGraph === 15) {
          facts.weightBytes += end - start;
          facts.external ||= inGraph === 5 && (await isExternal(reader, start, end));
        }
        if (inGraph !== 1) return;
        facts.nodes += 1;
        const { operator, domain } = await scanNode(reader, start, end);
        if (operator.startsWith("TreeEnsemble")) facts.treeBytes += end - start;
        if (operator === "Constant") facts.weightBytes += end - start;
        facts.steady &&= isSteady(operator, domain);
      });
    });
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return { fileBytes: size, ...facts, weightBytes: size };
  }
  return { fileBytes: size, ...facts };
}

interface Reader {
  /** The next bytes at a place: as many as the window holds, at least `wanted` unless the file ends. */
  at(place: number, wanted: number): Uint8Array | Promise<Uint8Array>;
}

function createReader(file: FileHandle, sizeBytes: number): Reader {
  let window: Uint8Array = new Uint8Array(0);
  let start = 0;
  return {
    at(place, wanted): Uint8Array | Promise<Uint8Array> {
      const end = start + window.length;
      if (place >= start && (place + wanted <= end || end === sizeBytes)) return window.subarray(place - start);
      return (async (): Promise<Uint8Array> => {
        const buffer = new Uint8Array(Math.max(1, Math.min(windowBytes, sizeBytes - place)));
        const { bytesRead } = await file.read(buffer, 0, buffer.length, place);
        [window, start] = [buffer.subarray(0, bytesRead), place];
        return window;
      })();
    },
  };
}

type Visit = (field: number, from: number, to: number) => Promise<void>;

/** Calls `visit` for each length-delimited field between two places; RangeError where the bytes are no message. */
async function walk(reader: Reader, from: number, to: number, visit: Visit): Promise<void> {
  let at = from;
  while (at < to) {
    const found = reader.at(at, 20);
    const bytes = found instanceof Uint8Array ? found : await found;
    const tag = parseVarint(bytes, 0);
    const wire = tag.value % 8;
    at += tag.length;
    if (wire === 0) at += parseVarint(bytes, tag.length).length;
    else if (wire === 1) at += 8;
    else if (wire === 5) at += 4;
    else if (wire === 2) {
      const { value, length } = parseVarint(bytes, tag.length);
      at += length;
      if (at + value > to) throw new RangeError("cut off");
      await visit(Math.floor(tag.value / 8), at, at + value);
      at += value;
    } else throw new RangeError("no wire type");
  }
}

function parseVarint(bytes: Uint8Array, from: number): { readonly value: number; readonly length: number } {
  let value = 0;
  for (let i = 0; i < 10; i++) {
    const byte = bytes[from + i];
    if (byte === undefined) throw new RangeError("cut off");
    value += (byte & 0x7f) * 2 ** (7 * i);
    if (byte < 0x80) return { value, length: i + 1 };
  }
  throw new RangeError("no varint");
}

const decoder = new TextDecoder();

async function scanNode(
  reader: Reader,
  from: number,
  to: number,
): Promise<{ readonly operator: string; readonly domain: string }> {
  const texts = { operator: "", domain: "" };
  await walk(reader, from, to, async (field, start, end) => {
    const what = field === 4 ? "operator" : field === 7 ? "domain" : undefined;
    if (what === undefined || end === start) return;
    texts[what] = end - start > 64 ? "?" : decoder.decode((await reader.at(start, end - start)).subarray(0, end - start));
  });
  return texts;
}

async function isExternal(reader: Reader, from: number, to: number): Promise<boolean> {
  let external = false;
  await walk(reader, from, to, async (field) => {
    external ||= field === 13;
  });
  return external;
}

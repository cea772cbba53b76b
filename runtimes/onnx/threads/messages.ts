// Owns what the main thread and a model thread say to each other: one order at a time, one answer each.
// Datatypes hold functions, so they travel by name; the memory of numbers is handed over, not copied.
import { findDatatype } from "../datatypes.ts";
import type { RefusalKind } from "../refusal.ts";
import type { LoadFailure, NamedTensor, Port } from "../session.ts";

type Sent<T extends { readonly datatype: unknown }> = Omit<T, "datatype"> & { readonly datatype: string };

export type Order =
  | { readonly kind: "open"; readonly session: number; readonly path: string }
  | {
      readonly kind: "run";
      readonly session: number;
      readonly inputs: readonly Sent<NamedTensor>[];
      readonly outputNames: readonly string[];
    }
  | { readonly kind: "release"; readonly session: number };

export type Answer =
  | { readonly kind: "opened"; readonly inputs: readonly Sent<Port>[]; readonly outputs: readonly Sent<Port>[] }
  | { readonly kind: "failed"; readonly failure: LoadFailure }
  | { readonly kind: "outputs"; readonly outputs: readonly Sent<NamedTensor>[]; readonly cpuMs: number }
  | { readonly kind: "refused"; readonly refusal: RefusalKind; readonly message: string; readonly cpuMs: number }
  | { readonly kind: "released" }
  | { readonly kind: "fault"; readonly message: string };

export function send<T extends { readonly datatype: { readonly name: string } }>(
  values: readonly T[],
): readonly (Omit<T, "datatype"> & { readonly datatype: string })[] {
  return values.map((value) => ({ ...value, datatype: value.datatype.name }));
}

export function receivePorts(ports: readonly Sent<Port>[]): readonly Port[] {
  return ports.map((port) => ({ ...port, datatype: datatypeOf(port.datatype) }));
}

export function receiveTensors(tensors: readonly Sent<NamedTensor>[]): readonly NamedTensor[] {
  return tensors.map((tensor) => ({ ...tensor, datatype: datatypeOf(tensor.datatype) }));
}

function datatypeOf(name: string): Port["datatype"] {
  const datatype = findDatatype(name);
  if (datatype === undefined) throw new Error(`a thread told of the datatype ${name}`);
  return datatype;
}

/** The memory that goes along with these tensors. Each is whole and nobody else's: parsers copy, and so does ONNX Runtime. */
export function memoryOf(tensors: readonly Pick<NamedTensor, "elements">[]): ArrayBuffer[] {
  const memory: ArrayBuffer[] = [];
  for (const { elements } of tensors) {
    if (!ArrayBuffer.isView(elements) || !(elements.buffer instanceof ArrayBuffer)) continue;
    if (elements.byteLength === elements.buffer.byteLength && !memory.includes(elements.buffer)) memory.push(elements.buffer);
  }
  return memory;
}

/** What the tensors take while they wait, texts by their length. */
export function bytesOf(tensors: readonly Pick<NamedTensor, "elements">[]): number {
  return tensors.reduce((sum, { elements }) => {
    if (ArrayBuffer.isView(elements)) return sum + elements.byteLength;
    return sum + elements.reduce((texts, text) => texts + 16 + 2 * text.length, 0);
  }, 0);
}

// Owns the reading of messages from strangers: the library takes a field that came with another wire type than its own for what
// it should be, and reads past the end of a message within a message, so that it sees other fields than every other reader does.
// Who reads a name in front of it (Envoy) would then read another one. Here such messages are refused before they are read.
// https://protobuf.dev/programming-guides/encoding/
import { type DescField, type DescMessage, fromBinary, type MessageShape, ScalarType } from "@bufbuild/protobuf";
import { WireReader } from "./wire.ts";

/** Throws RangeError, or the library's own error. Unknown fields are left out. */
export function readStrictly<Desc extends DescMessage>(schema: Desc, bytes: Buffer): MessageShape<Desc> {
  check(schema, new WireReader(bytes, 0, bytes.length));
  return fromBinary(schema, bytes, { readUnknownFields: false });
}

const maxKey = 2 ** 32 - 1;
const delimited = 2;
const fieldsOf = new WeakMap<DescMessage, ReadonlyMap<number, DescField>>();

function check(schema: DescMessage, reader: WireReader): void {
  let fields = fieldsOf.get(schema);
  if (fields === undefined) {
    fields = new Map(schema.fields.map((field) => [field.number, field]));
    fieldsOf.set(schema, fields);
  }
  while (!reader.done) {
    const { number, wire } = readKey(reader);
    const field = fields.get(number);
    if (field === undefined) reader.skip(wire);
    else checkField(field, wire, reader);
  }
}

function readKey(reader: WireReader): { readonly number: number; readonly wire: number } {
  const key = reader.varint();
  if (key > maxKey || key < 8) throw new RangeError("a field without a number");
  return { number: Math.floor(key / 8), wire: key % 8 };
}

function checkField(field: DescField, wire: number, reader: WireReader): void {
  switch (field.fieldKind) {
    case "message":
      return checkMessage(field.message, wire, reader);
    case "scalar":
      return checkScalar(field.scalar, wire, reader);
    case "enum":
      return checkScalar(ScalarType.INT32, wire, reader);
    case "list":
      if (field.listKind === "message") return checkMessage(field.message, wire, reader);
      return checkList(field.listKind === "scalar" ? field.scalar : ScalarType.INT32, wire, reader);
    case "map": {
      if (wire !== delimited) throw new RangeError("a field of another wire type");
      const entry = reader.message();
      while (!entry.done) {
        const part = readKey(entry);
        if (part.number === 1) checkScalar(field.mapKey, part.wire, entry);
        else if (part.number !== 2) entry.skip(part.wire);
        else if (field.mapKind === "message") checkMessage(field.message, part.wire, entry);
        else checkScalar(field.mapKind === "scalar" ? field.scalar : ScalarType.INT32, part.wire, entry);
      }
    }
  }
}

function checkMessage(schema: DescMessage, wire: number, reader: WireReader): void {
  if (wire !== delimited) throw new RangeError("a field of another wire type");
  check(schema, reader.message());
}

function checkScalar(type: ScalarType, wire: number, reader: WireReader): void {
  if (wire !== wireOf(type)) throw new RangeError("a field of another wire type");
  reader.skip(wire);
}

/** Of numbers several may stand in one. */
function checkList(type: ScalarType, wire: number, reader: WireReader): void {
  const own = wireOf(type);
  if (wire !== delimited || own === delimited) return checkScalar(type, wire, reader);
  const from = reader.block();
  const size = reader.at - from;
  const whole =
    own === 1 ? size % 8 === 0 : own === 5 ? size % 4 === 0 : size === 0 || (reader.bytes[reader.at - 1] ?? 128) < 128;
  if (!whole) throw new RangeError("numbers that are cut off");
}

function wireOf(type: ScalarType): number {
  switch (type) {
    case ScalarType.STRING:
    case ScalarType.BYTES:
      return delimited;
    case ScalarType.DOUBLE:
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
      return 1;
    case ScalarType.FLOAT:
    case ScalarType.FIXED32:
    case ScalarType.SFIXED32:
      return 5;
    case ScalarType.INT64:
    case ScalarType.UINT64:
    case ScalarType.INT32:
    case ScalarType.BOOL:
    case ScalarType.UINT32:
    case ScalarType.SINT32:
    case ScalarType.SINT64:
      return 0;
  }
}

// Owns the reading of protobuf's wire format field by field, for the few messages that are read by hand because they are
// many. https://protobuf.dev/programming-guides/encoding/

/** Walks over the fields of one encoded message, or of a part of it, without building anything. Throws RangeError. */
export class WireReader {
  at: number;
  readonly bytes: Buffer;
  readonly end: number;

  constructor(bytes: Buffer, from: number, end: number) {
    this.bytes = bytes;
    this.at = from;
    this.end = end;
  }

  varint(): number {
    let value = 0;
    let factor = 1;
    for (let i = 0; i < 10; i++) {
      const byte = this.at < this.end ? this.bytes[this.at++] : undefined;
      if (byte === undefined) throw new RangeError("truncated message");
      value += (byte & 127) * factor;
      if (byte < 128) return value;
      factor *= 128;
    }
    throw new RangeError("a varint of more than 10 bytes");
  }

  get done(): boolean {
    return this.at >= this.end;
  }

  /** Reads a length-delimited field as a message of its own. */
  message(): WireReader {
    const from = this.block();
    return new WireReader(this.bytes, from, this.at);
  }

  /** Reads a length-delimited field as text, byte for byte. */
  latin1(): string {
    const from = this.block();
    return this.bytes.toString("latin1", from, this.at);
  }

  /** Moves behind a length-delimited field and returns where it began. */
  block(): number {
    const size = this.varint();
    const from = this.at;
    if (size > this.end - from) throw new RangeError("truncated message");
    this.at = from + size;
    return from;
  }

  skip(wire: number): void {
    if (wire === 0) this.varint();
    else if (wire === 1) this.at += 8;
    else if (wire === 2) this.block();
    else if (wire === 5) this.at += 4;
    else throw new RangeError(`wire type ${wire}`);
    if (this.at > this.end) throw new RangeError("truncated message");
  }
}

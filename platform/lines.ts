// Owns the cutting of a byte stream into lines. A line longer than the bound is cut: a child cannot grow our memory.
import { StringDecoder } from "node:string_decoder";

const maxLineLength = 16_384;

export interface LineCutter {
  push(chunk: Buffer): void;
  /** Gives out what is left without a line end. */
  end(): void;
}

export function createLineCutter(onLine: (line: string) => void): LineCutter {
  const decoder = new StringDecoder("utf8");
  let rest = "";
  const take = (text: string): void => {
    const parts = (rest + text).split("\n");
    rest = parts.pop() ?? "";
    for (const part of parts) onLine(part.endsWith("\r") ? part.slice(0, -1) : part);
    while (rest.length > maxLineLength) {
      onLine(rest.slice(0, maxLineLength));
      rest = rest.slice(maxLineLength);
    }
  };
  return {
    push: (chunk) => take(decoder.write(chunk)),
    end(): void {
      take(decoder.end());
      if (rest !== "") onLine(rest);
      rest = "";
    },
  };
}

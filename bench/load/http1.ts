// Owns just enough of HTTP/1.1 for load: a request as bytes, and the cutting of a stream of messages with
// Content-Length. Not a parser for strangers: whatever it does not know is an error, never a guess.

export interface Http1Request {
  readonly path: string;
  readonly body: string;
}

/** A POST with a JSON body on a connection that stays open; `headers` besides those that it needs. */
export function buildRequest(host: string, { path, body }: Http1Request, headers: Readonly<Record<string, string>> = {}): Buffer {
  const more = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  const head = `POST ${path} HTTP/1.1\r\nhost: ${host}\r\ncontent-type: application/json\r\n${more.join("")}`;
  return Buffer.from(`${head}content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
}

export interface MessageCutter {
  /** Gives the first line of each message that is now whole; throws on what it does not know. */
  push(chunk: Buffer): readonly string[];
}

const headEnd = Buffer.from("\r\n\r\n");
const maxHeadBytes = 16 * 1_024;

export function createMessageCutter(): MessageCutter {
  let pending: Buffer = Buffer.alloc(0);
  return {
    push(chunk) {
      pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
      const lines: string[] = [];
      for (;;) {
        const headLength = pending.indexOf(headEnd);
        if (headLength === -1) {
          if (pending.length > maxHeadBytes) throw new Error("a message head over 16 KiB");
          return lines;
        }
        const head = pending.toString("latin1", 0, headLength);
        const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1];
        if (length === undefined) throw new Error(`a message without content-length: ${head.slice(0, 200)}`);
        const end = headLength + headEnd.length + Number(length);
        if (pending.length < end) return lines;
        lines.push(head.slice(0, head.indexOf("\r\n")));
        pending = pending.subarray(end);
      }
    },
  };
}

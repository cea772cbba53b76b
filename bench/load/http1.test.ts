import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { buildRequest, createMessageCutter } from "./http1.ts";

test("messages are cut out of a stream, however it is split", () => {
  const bodies = fc.array(fc.string({ maxLength: 40 }), { maxLength: 8 });
  fc.assert(
    fc.property(bodies, fc.array(fc.nat(200), { maxLength: 12 }), (texts, cuts) => {
      const stream = Buffer.concat(texts.map((body, at) => buildRequest("h", { path: `/${at}`, body })));
      const places = [0, ...cuts.filter((cut) => cut < stream.length), stream.length].sort((a, b) => a - b);
      const cutter = createMessageCutter();
      const lines = places.flatMap((from, at) => cutter.push(stream.subarray(from, places[at + 1] ?? stream.length)));
      assert.deepEqual(
        lines,
        texts.map((_, at) => `POST /${at} HTTP/1.1`),
      );
    }),
  );
});

test("the length is of bytes, and any case of the header is known", () => {
  const cutter = createMessageCutter();
  assert.deepEqual(cutter.push(Buffer.from("HTTP/1.1 200 OK\r\nContent-Length:2\r\n\r\n{")), []);
  assert.deepEqual(cutter.push(Buffer.from("}HTTP/1.1 404 No")), ["HTTP/1.1 200 OK"]);
  assert.match(buildRequest("h", { path: "/", body: "é" }).toString("latin1"), /content-length: 2\r\n/);
});

test("what has no content-length is an error", () => {
  assert.throws(() => createMessageCutter().push(Buffer.from("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")));
  assert.throws(() => createMessageCutter().push(Buffer.alloc(20_000, 65)));
});

// The upstream of fake pods: over HTTP/1.1 it gives one and the same V2 answer to whatever is asked, at once, so that next to
// nothing but the way there is measured. Ends with the process that forked it.
import { type AddressInfo, createServer } from "node:net";
import { createMessageCutter } from "../load/http1.ts";

const body = JSON.stringify({ model_name: "m", outputs: [{ name: "y", datatype: "FP32", shape: [1], data: [0] }] });
const answer = `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
/** All parked requests go on at once, each over a connection of its own. */
const backlog = 16_384;

const server = createServer({ noDelay: true }, (socket) => {
  const cutter = createMessageCutter();
  // Envoy closes what it no longer needs, in the middle of nothing: no concern here.
  socket.on("error", () => undefined);
  socket.on("data", (chunk: Buffer) => {
    const asked = cutter.push(chunk).length;
    if (asked > 0) socket.write(answer.repeat(asked));
  });
});
process.once("disconnect", () => process.exit(0));
server.listen({ host: process.argv[2], port: 0, backlog }, () => {
  process.send?.({ port: (server.address() as AddressInfo).port });
});

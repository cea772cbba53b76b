import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { test } from "node:test";
import { findTrouble, requireFree } from "./ports.ts";

test("a port that is taken, and a host that is not here, are told apart", async () => {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  try {
    await assert.rejects(requireFree("127.0.0.1", [port]), {
      name: "StartupError",
      message: `port ${port} on 127.0.0.1 is taken; end what uses it, or add --port-offset 100`,
    });
  } finally {
    server.close();
  }
  await once(server, "close");
  assert.equal(await findTrouble("127.0.0.1", port), undefined);
  // A documentation address, which no machine has.
  assert.match((await findTrouble("192.0.2.1", port))?.says ?? "", /no such address/);
});

import assert from "node:assert/strict";
import { once } from "node:events";
import { rename, writeFile } from "node:fs/promises";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { openRunFolder } from "#platform/tempdir.ts";
import { createAuthority } from "#platform/tls/authority.ts";
import { createGatewayClient } from "./gateway.ts";

const hourMs = 3_600_000;

test("a gateway is trusted by the authorities of the file as they are now, and only then gets the token", async () => {
  await using folder = await openRunFolder();
  const caFile = join(folder.path, "ca.pem");
  const put = async (pem: string): Promise<void> => {
    await writeFile(`${caFile}.new`, pem);
    await rename(`${caFile}.new`, caFile);
  };
  const [first, second] = await Promise.all(["first", "second"].map((name) => createAuthority(name, hourMs)));
  const tokens: (string | undefined)[] = [];
  const server = createServer(await first!.issue(["127.0.0.1"], hourMs), (request, response) => {
    tokens.push(request.headers.authorization);
    // So that each call needs a connection.
    response.setHeader("connection", "close");
    response.end(JSON.stringify({ pods: [] }));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
    await using client = createGatewayClient({ urls: [url], token: async () => "secret", caFile });
    const told = async (): Promise<string> => {
      const found = await client.describe("m");
      return found.kind === "unreachable" ? found.reason : found.kind;
    };
    assert.match(await told(), /ca\.pem cannot be read/);
    await put(second!.cert);
    assert.match(await told(), /verify|self.signed/);
    assert.deepEqual(tokens, []);
    await put(first!.cert);
    assert.deepEqual(await client.pods(), []);
    server.setSecureContext(await second!.issue(["127.0.0.1"], hourMs));
    assert.equal(await client.pods(), undefined);
    await put(second!.cert);
    assert.deepEqual(await client.pods(), []);
    assert.deepEqual(tokens, ["Bearer secret", "Bearer secret"]);
  } finally {
    server.closeAllConnections();
    server.close();
  }
});

// Owns the attacks from inside the fleet's network: on Links and the management port, by pods that lie, by records too large.
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { connect, createServer } from "node:net";
import { sleep } from "#platform/clock.ts";
import { modelPrefix, podPrefix } from "#platform/registry/records.ts";
import { CopyState } from "#proto/gen/warmpath/link/v1/link_pb.ts";
import { openFakePod } from "#test/harness/fakepod.ts";
import { createRestClient } from "#test/harness/http.ts";
import { type Attack, type AttackContext, flood } from "./attack.ts";

async function linkAddresses({ registry }: AttackContext): Promise<readonly string[]> {
  const { entries } = await registry.list(podPrefix, { limit: 100 });
  return entries.flatMap(({ value }) => /"linkAddress":"([^"]+)"/.exec(value)?.[1] ?? []);
}

/** Listens and answers everything with the same bytes. */
async function openGarbageServer(stack: AsyncDisposableStack): Promise<string> {
  const bytes = randomBytes(2_048);
  const server = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.on("data", () => void socket.write(bytes));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  stack.defer(() => void server.close());
  const { port } = server.address() as AddressInfo;
  return `127.0.0.1:${port}`;
}

export const insiderAttacks: readonly Attack[] = [
  {
    name: "linkFlood",
    what: "connections to the adapters' Links that say garbage, nothing, or a Hello and no more",
    async run(context, stack) {
      const addresses = await linkAddresses(context);
      await flood(context, 16, async (at) => {
        const [host = "127.0.0.1", port] = (addresses[at % addresses.length] ?? "").split(":");
        const socket = connect({ host, port: Number(port) });
        socket.on("error", () => undefined);
        stack.defer(() => void socket.destroy());
        await Promise.race([once(socket, "connect"), once(socket, "close")]);
        if (at % 2 === 0) socket.write(randomBytes(1_024));
        await sleep(20, context.signal);
        if (at % 4 !== 3) socket.destroy();
      });
    },
  },
  {
    name: "managementFlood",
    what: "the management port asked for everything, with bodies that are none, too large, or made to break a parser",
    async run(context, stack) {
      const client = stack.use(createRestClient(context.fleet.adminUrl));
      const json: readonly (readonly [string, string])[] = [["content-type", "application/json"]];
      const deep = `{"labels":${'{"a":'.repeat(20_000)}1${"}".repeat(20_000)}}`;
      const asks: readonly (readonly [string, string, "PUT" | "POST" | "GET"])[] = [
        ["/api/v1/models/bad", deep, "PUT"],
        ["/api/v1/models/bad", '{"__proto__":{"x":1},"format":"onnx","storageUri":"file:///x"}', "PUT"],
        ["/api/v1/models/bad", "a".repeat(8 << 20), "PUT"],
        ["/api/v1/models/..%2f..%2fetc", "{}", "PUT"],
        ["/api/v1/models/bad/load", '{"copies":1e308}', "POST"],
        ["/api/v1/pods/nobody/drain", "{}", "POST"],
        [`/api/v1/models?after=${"z".repeat(8_000)}&limit=1e9`, "", "GET"],
        ["/api/v1/keys", '{"principal":"' + "x".repeat(100_000) + '"}', "POST"],
      ];
      await flood(context, 1, async (at) => {
        const [path, body, method] = asks[at % asks.length] ?? ["/", "", "GET"];
        const answer = await client
          .ask(path, { method, headers: json, ...(method === "GET" ? {} : { body }) })
          .catch(() => undefined);
        if (answer === undefined) return;
        context.note(
          answer.status >= 400 && answer.status < 500,
          `${method} ${path.slice(0, 40)}: ${answer.status} ${answer.text.slice(0, 100)}`,
        );
      });
    },
  },
  {
    name: "hugeRecords",
    what: "records in the registry that are too large, too deep or none at all",
    async run(context) {
      const values = [
        "x".repeat(500_000),
        `{"name":"huge","revisions":[${'{"id":"r"},'.repeat(10_000)}{}]}`,
        "null",
        "[]",
        "\u0000",
      ];
      await flood(context, 2, async (at) => {
        const key = `${modelPrefix}huge-${at % 20}`;
        await context.registry.put(key, values[at % values.length] ?? "").catch(() => undefined);
        await sleep(5, context.signal);
      });
    },
  },
  {
    name: "lyingPod",
    what: "a pod that claims endless room, every model of the victim, and copies that do not exist",
    async run(context, stack) {
      const address = await openGarbageServer(stack);
      const claimed = context.own.slice(0, 200);
      const pod = stack.use(
        await openFakePod({
          registry: context.registry,
          podId: "liar",
          // Not of the victim's runtime: whoever may join as such a pod is trusted with its models.
          runtime: "other",
          capacityBytes: 2 ** 52,
          restAddress: address,
          grpcAddress: address,
          copies: claimed.map((model) => ({
            model,
            revision: "nonsense",
            slot: 99,
            state: CopyState.READY,
            sizeBytes: 2n ** 60n,
          })),
        }),
      );
      pod.setHolds(() => true);
      await flood(context, 1, async (at) => {
        const model = claimed[at % claimed.length] ?? "x";
        pod.tell([
          { model, revision: `r${at}`, slot: at, state: at % 2 === 0 ? CopyState.READY : CopyState.FAILED, sizeBytes: 2n ** 62n },
        ]);
        await sleep(2, context.signal);
      });
    },
  },
  {
    name: "garbageServer",
    what: "a pod whose model server answers nonsense, asked for the attacker's model",
    async run(context, stack) {
      const address = await openGarbageServer(stack);
      stack.use(
        await openFakePod({
          registry: context.registry,
          podId: "nonsense",
          runtime: "nonsense",
          restAddress: address,
          grpcAddress: address,
        }),
      );
      await context.fleet.manage("PUT", "/api/v1/models/wine-nonsense", { format: "nonsense", storageUri: "file:///x" });
      const client = stack.use(createRestClient(context.fleet.restUrl));
      await flood(context, 1, async () => {
        const answer = await client
          .ask("/v2/models/wine-nonsense/infer", { headers: [["x-api-key", context.key]], body: {} })
          .catch(() => undefined);
        if (answer === undefined) return;
        context.note(answer.status >= 400 && answer.status !== 500, `nonsense: ${answer.status} ${answer.text.slice(0, 100)}`);
        await sleep(5, context.signal);
      });
    },
  },
];

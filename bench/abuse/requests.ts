// Owns the attacks by requests that are whole: too many, for what is not there or not theirs, by tricks, or too large.
import { Readable } from "node:stream";
import { create, toBinary } from "@bufbuild/protobuf";
import { ModelInferRequestSchema } from "#proto/gen/inference/open_inference_pb.ts";
import { frameOf, inferencePath, openGrpcClient } from "#test/harness/grpc.ts";
import { createRestClient, type RestAnswer, type RestClient } from "#test/harness/http.ts";
import { type Attack, type AttackContext, flood } from "./attack.ts";

const clients = 8;
const pieceBytes = 64 * 1_024;
const inputs = [{ name: "x", shape: [1, 4], datatype: "FP32", data: [5.1, 3.5, 1.4, 0.2] }];

type Headers = readonly (readonly [string, string])[];

function openClients({ fleet }: AttackContext, stack: AsyncDisposableStack): readonly RestClient[] {
  return Array.from({ length: clients }, () => stack.use(createRestClient(fleet.restUrl)));
}

/** A call that may be refused, or cut off by the server, and is noted by what came. */
async function ask(
  context: AttackContext,
  client: RestClient | undefined,
  path: string,
  headers: Headers,
  expected: readonly number[],
  body: unknown = { inputs },
): Promise<RestAnswer | undefined> {
  const answer = await client?.ask(path, { method: "POST", headers, body }).catch(() => undefined);
  if (answer === undefined) return undefined;
  context.got(`${JSON.stringify(answer.headers)} ${answer.text}`);
  // Who floods is told so.
  context.note(
    answer.status === 429 || expected.includes(answer.status),
    `${path.slice(0, 80)}: ${answer.status} ${answer.text.slice(0, 120)}`,
  );
  return answer;
}

/** As a network brings them. To write all at once keeps a processor in the kernel for milliseconds: the attacker's, not the fleet's. */
function inPieces(bytes: Uint8Array): Readable {
  const pieces = function* (): Generator<Uint8Array> {
    for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
  };
  return Readable.from(pieces());
}

const refusedOrNotThere = [400, 401, 403, 404, 405, 413, 431];
const loadedOrFull = [200, 429, 503, 504];

export const requestAttacks: readonly Attack[] = [
  {
    name: "unknownModels",
    what: "requests for models that do not exist, each of another name, with and without a key",
    async run(context, stack) {
      const rest = openClients(context, stack);
      await flood(context, clients, async (at) => {
        const headers: Headers = at % 2 === 0 ? [] : [["x-api-key", context.key]];
        await ask(context, rest[at % clients], `/v2/models/no-such-${at}/infer`, headers, at % 2 === 0 ? [401] : [403, 404]);
      });
    },
  },
  {
    name: "coldModels",
    what: "requests for a thousand cold models of the attacker's own, more than fit",
    async run(context, stack) {
      const rest = openClients(context, stack);
      await flood(context, clients, async (at) => {
        const model = context.own[at % context.own.length];
        await ask(context, rest[at % clients], `/v2/models/${model}/infer`, [["x-api-key", context.key]], [...loadedOrFull, 400]);
      });
    },
  },
  {
    name: "foreignModels",
    what: "requests for the victim's warm models, over REST and gRPC, with no key, a wrong one and the attacker's",
    async run(context, stack) {
      const rest = openClients(context, stack);
      const grpc = stack.use(await openGrpcClient(context.fleet.grpcTarget));
      const keys = [undefined, `wk_${"A".repeat(43)}`, context.key];
      await flood(context, clients, async (at) => {
        const model = context.theirs[at % context.theirs.length] ?? "";
        const key = keys[at % keys.length];
        const expected = key === context.key ? [403] : [401];
        await ask(
          context,
          rest[at % clients],
          `/v2/models/${model}/infer`,
          key === undefined ? [] : [["x-api-key", key]],
          expected,
        );
        const message = toBinary(ModelInferRequestSchema, create(ModelInferRequestSchema, { modelName: model }));
        const headers = key === undefined ? {} : { "x-api-key": key };
        const answer = await grpc.call(inferencePath("ModelInfer"), frameOf(message), headers);
        context.got(answer.message + answer.body.toString("latin1"));
        context.note(
          answer.status === 8 || answer.status === (key === context.key ? 7 : 16),
          `gRPC ${model}: ${answer.status} ${answer.message}`,
        );
      });
    },
  },
  {
    name: "pathTricks",
    what: "paths that would reach a model server's own calls, or another model, if they were read in another way",
    async run(context, stack) {
      const rest = openClients(context, stack);
      const [own = "", theirs = ""] = [context.own[0], context.theirs[0]];
      const paths = [
        `/v2/repository/models/${theirs}/unload`,
        `/v2/repository/models/${own}/load`,
        `/v2/models/${own}/../${theirs}/infer`,
        `/v2/models/${own}/%2e%2e/${theirs}/infer`,
        `/v2//models/${theirs}/infer`,
        `//v2/models/${theirs}/infer`,
        `/v2/models/${own};/../${theirs}/infer`,
        `/v2/models/${own}%2f..%2f${theirs}/infer`,
        `/v2/models/${theirs}~0/infer`,
        `/v2/models/~set-000000000000-s0/${theirs}/infer`,
        `/v2/models/${theirs}/infer%00`,
        `/V2/models/${theirs}/infer`,
        `/v2/models/${theirs}\\infer`,
        "/v2/logging",
        "/v2/trace/setting",
        "/v2/systemsharedmemory/status",
        "/api/v1/models",
        "/metrics",
        "/config_dump",
      ];
      await flood(context, clients, async (at) => {
        const path = paths[at % paths.length] ?? "/";
        await ask(context, rest[at % clients], path, [["x-api-key", context.key]], refusedOrNotThere);
      });
    },
  },
  {
    name: "spoofedHeaders",
    what: "headers that only Warmpath itself may set, and Envoy's own for retries and timeouts",
    async run(context, stack) {
      const rest = openClients(context, stack);
      const theirs = context.theirs[0] ?? "";
      const spoofed: Headers = [
        ["x-warm-principal", "key:victim"],
        ["x-warm-principal", "victim"],
        ["x-warm-principal", "~"],
        ["x-warm-model", theirs],
        ["x-warm-public-name", theirs],
        ["x-warm-cluster", "pod-000000000000-rest"],
        ["x-warm-server-name", theirs],
        ["x-warm-slot", "1"],
        ["x-warm-load-ms", "1"],
        ["x-warm-claim", "victim"],
        ["x-warm-caller", "victim"],
        ["x-envoy-max-retries", "1000"],
        ["x-envoy-retry-on", "5xx,retriable-4xx"],
        ["x-envoy-upstream-rq-timeout-ms", "1"],
        ["x-envoy-is-timeout-retry", "true"],
        ["x-envoy-original-path", "/v2/repository/index"],
        ["x-forwarded-for", "127.0.0.1"],
      ];
      await flood(context, clients, async (at) => {
        const one = spoofed[at % spoofed.length];
        const key: Headers = at % 3 === 0 ? [] : [["x-api-key", context.key]];
        const headers = [...key, ...(one === undefined ? [] : [one])];
        await ask(context, rest[at % clients], `/v2/models/${theirs}/infer`, headers, at % 3 === 0 ? [401] : [403]);
      });
    },
  },
  {
    name: "largeHeaders",
    what: "requests with headers of 100 KB, and with a thousand headers",
    async run(context, stack) {
      await flood(context, 4, async (at) => {
        // A client of its own: such a connection is cut off.
        await using client = createRestClient(context.fleet.restUrl);
        const many: Headers = Array.from({ length: 1_000 }, (_, n) => [`x-many-${n}`, "1"]);
        const headers: Headers = at % 2 === 0 ? [["x-large", "a".repeat(100_000)]] : many;
        await ask(context, client, `/v2/models/${context.theirs[0]}/infer`, headers, [400, 431]);
      });
      void stack;
    },
  },
  {
    name: "largeBodies",
    what: "bodies of 64 MiB over REST, where a path or the body names the model, and messages of 64 MiB over gRPC",
    async run(context, stack) {
      const large = new Uint8Array(64 << 20).fill(97);
      const message = frameOf(large);
      const grpc = stack.use(await openGrpcClient(context.fleet.grpcTarget));
      await flood(context, 2, async (at) => {
        await using client = createRestClient(context.fleet.restUrl);
        const path = at % 2 === 0 ? "/v1/chat/completions" : `/v2/models/${context.theirs[0]}/infer`;
        const headers: Headers = [
          ["x-api-key", context.key],
          ["content-length", `${large.length}`],
        ];
        await ask(context, client, path, headers, [400, 401, 403, 404, 413], inPieces(large));
        const answer = await grpc
          .call(inferencePath("ModelInfer"), inPieces(message), { "x-api-key": context.key })
          .catch(() => undefined);
        if (answer !== undefined) context.note(answer.status !== 0, `gRPC 64 MiB: ${answer.status} ${answer.message}`);
      });
    },
  },
  {
    name: "lists",
    what: "every call that lists models or tells of the server: the victim's names must not be there",
    async run(context, stack) {
      const rest = openClients(context, stack);
      const paths = ["/v1/models", "/v2", "/v2/health/ready", "/v2/repository/index", "/openai/v1/models"];
      await flood(context, clients, async (at) => {
        const answer = await rest[at % clients]
          ?.ask(paths[at % paths.length] ?? "/", {
            method: paths[at % paths.length]?.endsWith("index") === true ? "POST" : "GET",
            headers: [["x-api-key", context.key]],
          })
          .catch(() => undefined);
        if (answer === undefined) return;
        const told = context.theirs.find((name) => answer.text.includes(`"${name}"`));
        context.note(told === undefined, `${paths[at % paths.length]} tells of ${told}`);
      });
    },
  },
];

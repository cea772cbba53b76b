// Real model servers that are not ours, behind a real adapter, gateway and Envoy: models are registered over the management
// API, loaded by the first request, answered right over REST and gRPC, evicted, given another revision; the server forgets
// one, is killed, stands still. Two pods of each, so that there is always one that can answer.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { clientPython, runCases } from "../clients/environment.ts";
import { type AdapterPod, openAdapterPod } from "../harness/adapterpod.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { createRestClient } from "../harness/http.ts";
import { openMlserver } from "../harness/mlserver.ts";
import type { ModelServer } from "../harness/modelserver.ts";
import { openTriton } from "../harness/triton.ts";
import { waitUntil } from "../harness/wait.ts";

interface Kind {
  readonly driver: string;
  open(): Promise<ModelServer & { readonly models: string; readonly repository: string }>;
  /** Two that answer otherwise; by name of the folder below `models`. */
  readonly artefacts: readonly [Artefact, Artefact];
  readonly binary: boolean;
  /** Of a pod: two or three models of 0.4 of it fit, also once what they take is known. */
  readonly capacityBytes: number;
}

interface Artefact {
  readonly format: string;
  readonly folder: string;
  cases(server: unknown): Pick<Case, "inputs" | "outputs">;
}

interface Case {
  readonly model: string;
  readonly wire: "rest" | "grpc";
  readonly binary: boolean;
  readonly inputs: readonly {
    readonly name: string;
    readonly datatype: string;
    readonly shape: readonly number[];
    readonly data: readonly number[];
  }[];
  readonly outputs: Readonly<Record<string, readonly number[]>>;
}

const patienceMs = 60_000;

const mlserverAnswer = (format: "sklearn" | "lightgbm"): Artefact => ({
  format,
  folder: format,
  cases(server) {
    const { answers } = server as Awaited<ReturnType<typeof openMlserver>>;
    const inputs = [{ name: "x", datatype: "FP64", shape: [answers.rows.length, 4], data: answers.rows.flat() }];
    return { inputs, outputs: { predict: answers[format] } };
  },
});

const addsub = (folder: string, swapped: boolean): Artefact => ({
  format: "python",
  folder,
  cases() {
    const inputs = ["INPUT0", "INPUT1"].map((name, at) => ({
      name,
      datatype: "FP32",
      shape: [4],
      data: at === 0 ? [1, 2, 3, 4] : [4, 3, 2, 0.5],
    }));
    const [sum, difference] = [
      [5, 5, 5, 4.5],
      [-3, -1, 1, 3.5],
    ];
    return { inputs, outputs: { OUTPUT0: swapped ? difference : sum, OUTPUT1: swapped ? sum : difference } };
  },
});

const kinds: readonly Kind[] = [
  {
    driver: "mlserver",
    async open() {
      const server = await openMlserver();
      return Object.assign(Object.create(server), { repository: server.root });
    },
    artefacts: [mlserverAnswer("sklearn"), mlserverAnswer("lightgbm")],
    binary: false,
    capacityBytes: 1_000_000,
  },
  {
    driver: "triton",
    open: openTriton,
    artefacts: [addsub("addsub", false), addsub("subadd", true)],
    binary: true,
    capacityBytes: 40_000_000,
  },
];

for (const kind of kinds) {
  describe(`${kind.driver} behind Envoy`, { timeout: 400_000 }, () => {
    const stack = new AsyncDisposableStack();
    const servers: Awaited<ReturnType<Kind["open"]>>[] = [];
    const adapters: AdapterPod[] = [];
    let fleet: TestFleet;
    const [first, second] = kind.artefacts;
    const { capacityBytes } = kind;
    const told = (): string => adapters.map((adapter) => adapter.tail()).join("\n---\n");

    before(async () => {
      fleet = stack.use(await openFleet({ pods: 1 }));
      for (const at of [0, 1]) {
        const server = stack.use(await kind.open());
        servers.push(server);
        const { restAddress, grpcAddress, repository } = server;
        const pod = { podId: `foreign-${at}`, runtime: kind.driver, driver: kind.driver, restAddress, grpcAddress };
        const flags = { repository, "min-age": "0s" };
        // Each server has its artefacts in a folder of its own; both hold the same.
        adapters.push(
          stack.use(await openAdapterPod(fleet, { ...pod, capacityBytes, storageRoot: servers[0]?.models ?? "", flags })),
        );
      }
    });
    after(() => stack.disposeAsync());

    const revision = ({ format, folder }: Artefact, sizeHintBytes: number): Record<string, unknown> => ({
      format,
      storageUri: `file://${join(servers[0]?.models ?? "", folder)}`,
      sizeHintBytes,
    });
    const register = async (name: string, artefact: Artefact, sizeHintBytes = 10_000): Promise<void> => {
      const put = await fleet.manage("PUT", `/api/v1/models/${name}`, revision(artefact, sizeHintBytes));
      assert.equal(put.status, 201, put.text);
      await waitUntil(
        `${name} is known`,
        async () => (await fleet.manage("GET", `/api/v1/models/${name}`)).status,
        (status) => status === 200,
      );
    };
    const ask = async (cases: readonly Pick<Case, "model" | "wire">[], artefact: Artefact): Promise<void> => {
      const whole = cases.map((each): Case => ({ ...each, binary: kind.binary, ...artefact.cases(servers[0]) }));
      const args = [new URL(fleet.restUrl).host, fleet.grpcTarget, JSON.stringify(whole)];
      const results = await runCases(await clientPython(), "foreign_clients.py", args);
      assert.equal(results.length, cases.length);
      for (const { case: name, ok, saw } of results) assert.ok(ok, `${name}: ${saw}\n${told()}`);
    };
    const both = (model: string): Pick<Case, "model" | "wire">[] => [
      { model, wire: "rest" },
      { model, wire: "grpc" },
    ];
    const infer = async (
      model: string,
      artefact: Artefact = first,
    ): Promise<{ readonly status: number; readonly text: string }> => {
      await using client = createRestClient(fleet.restUrl);
      const { inputs } = artefact.cases(servers[0]);
      const startMs = performance.now();
      return await client.ask(`/v2/models/${model}/infer`, { method: "POST", body: { inputs } }).catch(async (cause: unknown) => {
        const seen = JSON.stringify([await state(model), await fleet.stats()]);
        throw new Error(
          [
            `${model}: no answer in ${performance.now() - startMs} ms: ${String(cause)}; ${seen}`,
            await fleet.envoyWork(),
            ...servers.map((server) => server.tail()),
            told(),
            await fleet.tail("gateway"),
          ].join("\n"),
          { cause },
        );
      });
    };
    const answers = async (model: string): Promise<void> => {
      const answer = await infer(model);
      assert.equal(answer.status, 200, `${answer.text}\n${told()}`);
    };
    const forget = async (model: string): Promise<void> => {
      for (const { restAddress } of servers) {
        await using client = createRestClient(`http://${restAddress}`);
        await client.ask(`/v2/repository/models/${model}/unload`, { method: "POST", body: {} });
      }
    };
    const state = async (model: string): Promise<{ readonly pod: string; readonly state: string }[]> => {
      const { json } = await fleet.manage("GET", `/api/v1/models/${model}`);
      return (json as { copies: { pod: string; state: string }[] }).copies;
    };
    const holder = async (model: string): Promise<number> => {
      const copies = await waitUntil(
        `${model} is ready somewhere`,
        () => state(model),
        (seen) => seen.some((copy) => copy.state === "ready"),
        patienceMs,
      );
      return Number(copies.find((copy) => copy.state === "ready")?.pod.slice("foreign-".length));
    };

    test("cold and warm, by Triton's own clients over REST and gRPC, as the model alone answers", async () => {
      for (const [name, artefact] of [
        ["first", first],
        ["second", second],
      ] as const) {
        await register(name, artefact);
        await register(`${name}-grpc`, artefact);
        await ask([...both(name), { model: `${name}-grpc`, wire: "grpc" }, ...both(name), ...both(`${name}-grpc`)], artefact);
      }
    });

    test("more models than fit: some leave, all are answered", async () => {
      const names = Array.from({ length: 8 }, (_, at) => `many-${at}`);
      for (const name of names) await register(name, first, 0.4 * capacityBytes);
      for (let round = 0; round < 2; round++) for (const name of names) await answers(name);
      const copies = await Promise.all(names.map(state));
      const ready = copies.flat().filter((copy) => copy.state === "ready");
      assert.ok(ready.length >= 2 && ready.length <= 6, JSON.stringify(copies));
      await ask(both("many-3"), first);
    });

    test("another revision takes the first one's place, and the name in its answers is the model's", async () => {
      await register("moving", first);
      await ask(both("moving"), first);
      const added = await fleet.manage("POST", "/api/v1/models/moving/revisions?activate=when-loaded", revision(second, 10_000));
      assert.ok(added.status < 300, added.text);
      await waitUntil(
        "the pointer has moved",
        async () => (await fleet.manage("GET", "/api/v1/models/moving")).json,
        (json) =>
          (json as { transition: string; target?: string }).transition === "UpToDate" &&
          (json as { target?: string }).target === undefined,
        patienceMs,
      );
      await waitUntil(
        "the second one answers",
        async () => {
          try {
            await ask(both("moving"), second);
            return "right";
          } catch (error) {
            return String(error);
          }
        },
        (seen) => seen === "right",
        patienceMs,
      );
    });

    test("a model that the server forgot is loaded anew, and no client hears of it", async () => {
      await register("forgotten", first);
      await answers("forgotten");
      await holder("forgotten");
      for (const wire of ["rest", "grpc", "rest"] as const) {
        await ask([{ model: "forgotten", wire }], first);
        await forget("forgotten");
        await ask([{ model: "forgotten", wire }], first);
      }
    });

    test("what the server does not know of a model that it holds is the server's answer", async () => {
      await answers("forgotten");
      await using client = createRestClient(fleet.restUrl);
      const { inputs } = first.cases(servers[0]);
      const answer = await client.ask("/v2/models/forgotten/versions/77/infer", { method: "POST", body: { inputs } });
      assert.equal(answer.status, 404, answer.text);
      assert.match(answer.text, /77|version/i);
    });

    test("killed under requests, another pod answers; it takes loads again when it is back", async () => {
      await register("killed", first);
      await answers("killed");
      const at = await holder("killed");
      const server = servers[at];
      assert.ok(server !== undefined);
      const asking = Array.from({ length: 20 }, () => infer("killed"));
      await server.kill();
      const outcomes = await Promise.all(
        [...asking, ...Array.from({ length: 20 }, () => infer("killed"))].map((each) =>
          each.then(({ status, text }) => (status === 200 ? "200" : `${status} ${text}`), String),
        ),
      );
      assert.deepEqual([...new Set(outcomes)], ["200"], told());
      await server.revive();
      // Only the pod that came back has room for it.
      const other = servers[1 - at];
      assert.ok(other !== undefined);
      await other.kill();
      await waitUntil(
        "the pod that came back answers",
        async () => (await infer("killed")).status,
        (status) => status === 200,
        patienceMs,
      );
      await ask(both("killed"), first);
      await other.revive();
    });

    test("standing still, another pod answers within seconds; it serves again afterwards", async () => {
      await register("hung", first);
      await waitUntil(
        "it is loaded",
        async () => (await infer("hung")).status,
        (status) => status === 200,
        patienceMs,
      );
      const at = await holder("hung");
      const { pid } = servers[at] ?? assert.fail();
      process.kill(pid, "SIGSTOP");
      try {
        const answer = await infer("hung");
        assert.equal(answer.status, 200, `${answer.text}\n${told()}`);
        // On a busy machine that one may be thought lost too for a while: clients go on asking.
        await waitUntil(
          "another pod holds it",
          async () => {
            await infer("hung");
            return await state("hung");
          },
          (copies) => copies.some((copy) => copy.state === "ready" && copy.pod === `foreign-${1 - at}`),
          patienceMs,
        );
        await answers("hung");
      } finally {
        process.kill(pid, "SIGCONT");
      }
      await answers("hung");
    });
  });
}

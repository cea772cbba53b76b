// Which ports the adapter takes in a runtime's pods.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { array, assert as check, constantFrom, integer, oneof, property } from "fast-check";
import { choosePorts } from "./ports.ts";
import { parseRuntime } from "./runtime.ts";

const runtimeOf = (spec: Readonly<Record<string, unknown>>): ReturnType<typeof parseRuntime> =>
  parseRuntime({
    metadata: { name: "own", namespace: "a", uid: "u", generation: 1, annotations: {}, labels: {} },
    body: { spec: { multiModel: true, containers: [{ name: "server" }], ...spec } },
  } as unknown as Parameters<typeof parseRuntime>[0]);

describe("the adapter's ports", () => {
  test("are the usual ones beside a known server, whatever grpcEndpoint says, which is the adapter's own there", () => {
    const builtInAdapter = { serverType: "mlserver", runtimeManagementPort: 8001 };
    const runtime = runtimeOf({ builtInAdapter, grpcEndpoint: "port:8085", containers: [{ name: "mlserver" }] });
    assert.deepEqual(choosePorts(runtime, [8001, 8002]), { link: 8085, metrics: 2112 });
  });

  test("are such that no custom server can have listened on beside ModelMesh, where they are free", () => {
    assert.deepEqual(choosePorts(runtimeOf({ grpcEndpoint: "port:8085" }), [8085, 8080]), { link: 8089, metrics: 2112 });
    assert.deepEqual(choosePorts(runtimeOf({ grpcEndpoint: "unix:/run/a/b" }), [8089, 2112]), { link: 8090, metrics: 8033 });
  });

  test("are never the author's, however many he takes", () => {
    const port = oneof(constantFrom(8085, 8089, 8090, 8033, 8008, 2112, 18_085, 18_086), integer({ min: 1, max: 65_535 }));
    check(
      property(array(port, { maxLength: 12 }), constantFrom("ports", "probes", "endpoints", "bound"), (taken, how) => {
        const spec =
          how === "ports"
            ? { containers: [{ name: "a", ports: taken.map((containerPort) => ({ containerPort })) }] }
            : how === "probes"
              ? { containers: taken.map((at, n) => ({ name: `c${n}`, livenessProbe: { httpGet: { port: at } } })) }
              : how === "endpoints"
                ? { grpcEndpoint: `port:${taken[0] ?? 1}`, grpcDataEndpoint: `port:${taken[1] ?? 1}` }
                : {};
        const known = how === "endpoints" ? taken.slice(0, 2) : taken;
        const { link, metrics } = choosePorts(runtimeOf(spec), how === "bound" ? taken : []);
        assert.notEqual(link, metrics);
        for (const each of [link, metrics]) assert.ok(!known.includes(each));
      }),
    );
  });
});

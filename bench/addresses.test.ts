import assert from "node:assert/strict";
import { test } from "node:test";
import { parsePodAddress } from "./addresses.ts";

const host = (port: number) => ({ address: { socket_address: { address: "127.0.0.1", port_value: port } } });

test("the pod is found among Envoy's clusters", () => {
  const cluster_statuses = [
    { name: "warm-gateway", host_statuses: [{ address: { pipe: { path: "/x" } } }] },
    { name: "set-1-rest", host_statuses: [host(1), { address: { envoy_internal_address: {} } }] },
    { name: "pod-1-rest", host_statuses: [host(2)] },
    { name: "pod-1-grpc", host_statuses: [host(3)] },
  ];
  assert.deepEqual(parsePodAddress({ cluster_statuses }), {
    rest: { host: "127.0.0.1", port: 2 },
    grpc: { host: "127.0.0.1", port: 3 },
  });
});

test("before there is a pod there is no address", () => {
  assert.equal(parsePodAddress({}), undefined);
  assert.equal(parsePodAddress({ cluster_statuses: [{ name: "pod-1-rest", host_statuses: [host(2)] }] }), undefined);
});

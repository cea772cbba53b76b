import assert from "node:assert/strict";
import { test } from "node:test";
import { StartupError } from "#platform/lifecycle.ts";
import { parseServerFlags } from "./flags.ts";

const ports = ["--rest-port", "0", "--grpc-port=8001"];
const socket = ["--admin-socket", "/run/a.sock"];

test("parses flags, with what is left out filled in", () => {
  const flags = {
    restPort: 0,
    grpcPort: 8001,
    host: "127.0.0.1",
    adminSocket: "/run/a.sock",
    maxBodyBytes: 16_777_216,
    maxWaiting: 1_000,
    exitWithParent: false,
  };
  assert.deepEqual(parseServerFlags([...ports, ...socket]), flags);
  assert.deepEqual(parseServerFlags([...ports, ...socket, "--host", "::1", "--max-body-bytes", "1Mi", "--exit-with-parent"]), {
    ...flags,
    host: "::1",
    maxBodyBytes: 1_048_576,
    exitWithParent: true,
  });
  const threads = ["--threads", "0", "--max-waiting", "5"];
  assert.deepEqual(parseServerFlags([...ports, ...socket, ...threads]), { ...flags, threads: 0, maxWaiting: 5 });
});

const refused: readonly [string, string[], RegExp][] = [
  ["no ports", socket, /--rest-port must be a port number; --grpc-port/],
  ["a port too high", ["--rest-port", "70000", "--grpc-port", "0", ...socket], /at most 65535/],
  ["no socket", ports, /--admin-socket must name/],
  ["a socket with a long path", [...ports, "--admin-socket", `/tmp/${"x".repeat(120)}`], /--admin-socket .*107 bytes/],
  ["a limit that is no size", [...ports, ...socket, "--max-body-bytes", "big"], /--max-body-bytes must be a size/],
  ["more threads than any machine needs", [...ports, ...socket, "--threads", "65"], /--threads must be at most 64/],
  ["threads that are no number", [...ports, ...socket, "--threads", "many"], /--threads must be a number/],
  ["no request that may wait", [...ports, ...socket, "--max-waiting", "0"], /--max-waiting must be at least 1/],
  ["an unknown flag", ["--nope"], /usage/],
  ["a word too many", [...ports, ...socket, "word"], /usage/],
];

for (const [name, args, message] of refused) {
  test(`refuses ${name}`, () => {
    assert.throws(
      () => parseServerFlags(args),
      (error) => error instanceof StartupError && message.test(error.message),
    );
  });
}

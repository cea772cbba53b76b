import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import { describeFlags, durationMsOption, parseFlags, parseOptions, portOption, sizeBytesOption } from "./config.ts";
import { StartupError } from "./lifecycle.ts";

const schema = z.object({ httpPort: portOption, for: durationMsOption.optional(), memory: sizeBytesOption.optional() });

for (const [text, ms] of [
  ["250ms", 250],
  ["30s", 30_000],
  ["30", 30_000],
  ["1.5m", 90_000],
  ["2h", 7_200_000],
] as const) {
  test(`duration ${text}`, () => assert.equal(durationMsOption.parse(text), ms));
}

for (const [text, bytes] of [
  ["1024", 1_024],
  ["64Mi", 67_108_864],
  ["2G", 2_000_000_000],
  ["0.5Ki", 512],
] as const) {
  test(`size ${text}`, () => assert.equal(sizeBytesOption.parse(text), bytes));
}

test("good options come back frozen", () => {
  const options = parseOptions(schema, { httpPort: "8008", for: "30s" });
  assert.deepEqual(options, { httpPort: 8_008, for: 30_000 });
  assert.ok(Object.isFrozen(options));
});

for (const [input, message] of [
  [{ httpPort: "70000" }, "bad options: --http-port must be at most 65535"],
  [{ httpPort: "x" }, "bad options: --http-port must be a port number"],
  [{ httpPort: 1, for: "soon" }, 'bad options: --for must be a duration such as 500ms, 30s or 2m, not "soon"'],
  [{ httpPort: 1, memory: "lots" }, 'bad options: --memory must be a size such as 512Mi or 2G, not "lots"'],
] as const) {
  test(message, () => assert.throws(() => parseOptions(schema, input), { name: "UsageError", exitCode: 2, message }));
}

const plain = z.object({
  pods: z.coerce.number().int().min(1).max(64).optional(),
  level: z.enum(["low", "high", "none"]).optional(),
  name: z.string().min(1).max(5),
});

for (const [input, message] of [
  [{}, "bad options: --name is missing"],
  [{ name: "" }, "bad options: --name must not be empty"],
  [{ name: "too long" }, "bad options: --name must be at most 5 characters long"],
  [{ name: "a", pods: "0" }, "bad options: --pods must be at least 1"],
  [{ name: "a", pods: "65" }, "bad options: --pods must be at most 64"],
  [{ name: "a", pods: "x" }, "bad options: --pods must be a number"],
  [{ name: "a", level: "loud" }, "bad options: --level must be low, high or none"],
] as const) {
  test(`where the schema has no words of its own: ${message}`, () =>
    assert.throws(() => parseOptions(plain, input), { name: "UsageError", message }));
}

test("help says what each option takes, and its default as one would write it", () => {
  const help = describeFlags(
    z.object({
      grace: durationMsOption.default(90_000).describe("how long"),
      patience: durationMsOption.default(300_000).describe("how long"),
      linger: durationMsOption.default(0).describe("how long"),
      cache: sizeBytesOption
        .pipe(z.int().max(2 ** 50))
        .default(10 * 2 ** 30)
        .describe("how much"),
      port: portOption.default(8080).describe("where"),
      free: portOption.describe("where"),
      copies: z.coerce.number().int().default(3).describe("how many"),
      name: z.string().default("here").describe("called"),
    }),
  );
  assert.deepEqual(help.split("\n"), [
    "  --grace <DURATION>     how long (default: 90s)",
    "  --patience <DURATION>  how long (default: 5m)",
    "  --linger <DURATION>    how long (default: 0s)",
    "  --cache <SIZE>         how much (default: 10Gi)",
    "  --port <PORT>          where (default: 8080)",
    "  --free <PORT>          where (required)",
    "  --copies <N>           how many (default: 3)",
    "  --name <VALUE>         called (default: here)",
  ]);
});

const flags = z.object({
  podId: z.string(),
  count: z.coerce.number().int().min(1).default(2),
  verbose: z.boolean().default(false),
});

test("flags are named after their options; only one that takes true stands without a value", () => {
  assert.deepEqual(parseFlags(flags, ["--pod-id", "a", "--verbose", "--count", "3"]), { podId: "a", count: 3, verbose: true });
  assert.deepEqual(parseFlags(flags, ["--pod-id", "a"]), { podId: "a", count: 2, verbose: false });
});

for (const [what, argv, says] of [
  ["an unknown flag", ["--pod-id", "a", "--nope"], /nope/],
  ["a flag without its value", ["--pod-id"], /pod-id/],
  ["a bad value", ["--pod-id", "a", "--count", "0"], /--count/],
  ["a missing flag", [], /--pod-id/],
] as const) {
  test(`${what} is told in one line`, () => {
    assert.throws(
      () => parseFlags(flags, argv),
      (error) => error instanceof StartupError && says.test(error.message) && !error.message.includes("\n"),
    );
  });
}

// Owns making requests that are nearly right: a good value with a few of its parts gone, doubled, or something else.
import * as fc from "fast-check";

type Path = readonly (string | number)[];

function pathsOf(value: unknown, at: Path = []): Path[] {
  if (typeof value !== "object" || value === null) return [at];
  return [
    at,
    ...Object.entries(value).flatMap(([key, part]) => pathsOf(part, [...at, Array.isArray(value) ? Number(key) : key])),
  ];
}

function replaced(value: unknown, [key, ...rest]: Path, by: unknown): unknown {
  if (key === undefined || typeof value !== "object" || value === null) return by;
  if (Array.isArray(value)) return value.map((part: unknown, at) => (at === key ? replaced(part, rest, by) : part));
  // `__proto__` becomes a member like any other, as it does in JSON.parse.
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, name === key ? replaced(part, rest, by) : part]));
}

const odd = fc.oneof(
  { weight: 4, arbitrary: fc.jsonValue({ maxDepth: 2 }) },
  {
    weight: 4,
    arbitrary: fc.constantFrom<unknown>(
      "",
      null,
      -1,
      0,
      2 ** 53,
      1e308,
      "..",
      "a/../b",
      "\u0000",
      "a".repeat(3_000),
      [],
      {},
      [[]],
      true,
      "0",
      "1Gi",
    ),
  },
  fc.string({ maxLength: 30 }),
  fc.constant(undefined),
  fc.constantFrom(JSON.parse('{"__proto__":{"x":1},"constructor":1}') as unknown, JSON.parse('{"toString":null}') as unknown),
);

/** The value itself now and then. */
export function mutated(base: unknown): fc.Arbitrary<unknown> {
  const paths = pathsOf(base).filter((path) => path.length > 0);
  const change = fc.tuple(fc.constantFrom(...paths), odd);
  return fc
    .array(change, { maxLength: 3 })
    .map((changes) => changes.reduce((value, [path, by]) => replaced(value, path, by), base));
}

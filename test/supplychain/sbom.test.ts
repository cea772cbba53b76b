// The bill of materials, as the command writes it, names all that the lock file names, with hash and licence, and Envoy.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { z } from "zod";
import { etcdWheel } from "../../cli/setup/etcd.mjs";
import { wheels } from "../../cli/setup/wheels.mjs";
import { npmPackages } from "./sources.ts";

const run = promisify(execFile);
const root = new URL("../..", import.meta.url).pathname;

const licence = z.union([z.strictObject({ license: z.object({ id: z.string() }) }), z.strictObject({ expression: z.string() })]);
/** CycloneDX 1.5, of which this much must be there: https://cyclonedx.org/docs/1.5/json/ */
const bill = z.object({
  bomFormat: z.literal("CycloneDX"),
  specVersion: z.string().regex(/^1\.[5-9]$/),
  serialNumber: z.string().regex(/^urn:uuid:[0-9a-f-]{36}$/),
  metadata: z.object({ component: z.object({ name: z.literal("warmpath"), version: z.string(), licenses: z.array(licence) }) }),
  components: z.array(
    z.object({
      "bom-ref": z.string(),
      type: z.enum(["library", "application"]),
      name: z.string(),
      version: z.string(),
      purl: z.string().regex(/^pkg:(npm|pypi)\/[^@]+@.+$/),
      hashes: z
        .array(z.object({ alg: z.enum(["SHA-512", "SHA-256", "SHA-1"]), content: z.string().regex(/^[0-9a-f]{40,128}$/) }))
        .min(1),
      licenses: z.array(licence).min(1),
    }),
  ),
  dependencies: z.array(z.object({ ref: z.string() })),
});

async function write(...args: readonly string[]): Promise<z.infer<typeof bill>> {
  const { stdout } = await run("npm", ["run", "--silent", "sbom", "--", ...args], { cwd: root, maxBuffer: 64 << 20 });
  return bill.parse(JSON.parse(stdout));
}

describe("the bill of materials", () => {
  test("names what is shipped and nothing that only tests it", async () => {
    const { components } = await write();
    const named = new Set(components.map(({ name, version }) => `${name}@${version}`));
    const packages = npmPackages("package-lock.json");
    const missing = packages.filter(({ dev, name, version }) => !dev && !named.has(`${name}@${version}`));
    assert.deepEqual(missing, []);
    for (const name of ["typescript", "fast-check", "playwright-core"])
      assert.ok(!components.some((component) => component.name === name), name);
    for (const { name, sha256 } of [wheels["envoyX64"], wheels["envoyArm64"], etcdWheel].flatMap((wheel) => wheel ?? [])) {
      const found = components.find(({ hashes }) => hashes.some(({ content }) => content === sha256));
      assert.equal(found?.name, name);
    }
    assert.equal(
      new Set(components.map((component) => component["bom-ref"])).size,
      components.length,
      "each has a name of its own",
    );
  });

  test("names everything when asked for it", async () => {
    const { components } = await write("--dev");
    const named = new Set(components.map(({ name, version }) => `${name}@${version}`));
    for (const { name, version } of npmPackages("package-lock.json")) assert.ok(named.has(`${name}@${version}`), name);
  });
});

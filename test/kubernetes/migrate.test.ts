// `warmpath migrate check` as a user runs it before a move: of an API server it says what it says of the same objects in files,
// it changes nothing, and what it may not see it says.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { parseAllDocuments } from "yaml";
import { listObjects } from "#controller/migrate/check.ts";
import type { Finding } from "#controller/migrate/finding.ts";
import { type ControlPlane, openControlPlane } from "./harness/controlplane.ts";
import { applyCrds } from "./harness/crds.ts";
import { type CommandResult, runCommand } from "./harness/kubectl.ts";
import { whyNoControlPlane } from "./harness/programs.ts";

const skip = whyNoControlPlane() ?? false;
const main = fileURLToPath(new URL("../../cli/main.ts", import.meta.url));
const installation = fileURLToPath(new URL("../../controller/migrate/goldens/installation.yaml", import.meta.url));
const kinds = "servingruntimes,clusterservingruntimes,inferenceservices,predictors,secrets,configmaps";

describe("a check before a move", { skip }, () => {
  const stack = new AsyncDisposableStack();
  let plane: ControlPlane;

  before(async () => {
    plane = stack.use(await openControlPlane());
    await applyCrds(plane.kubectl);
    await plane.kubectl("create", "namespace", "shop");
    for (const object of parseAllDocuments(readFileSync(installation, "utf8")).flatMap((document) =>
      listObjects(document.toJS()),
    ))
      await plane.kubectl.apply(JSON.stringify(object), "shop");
  });
  after(() => stack.disposeAsync());

  const check = (...args: readonly string[]): Promise<CommandResult> =>
    runCommand(process.execPath, [main, "migrate", "check", ...args]);
  const findingsOf = ({ stdout, stderr }: CommandResult): readonly Finding[] => {
    assert.equal(stderr, "");
    return (JSON.parse(stdout) as { readonly findings: readonly Finding[] }).findings;
  };
  const versions = async (): Promise<string> =>
    await plane.kubectl("get", kinds, "--namespace", "shop", "--output", "jsonpath={.items[*].metadata.resourceVersion}");

  test("says of an API server what it says of the same objects in a file, and changes nothing", async () => {
    const before = await versions();
    const cluster = await check("--cluster", "--kubeconfig", plane.kubeconfig, "--namespace", "shop", "--json");
    assert.equal(await versions(), before);
    const file = join(plane.folder, "installation.yaml");
    const namespaced = await plane.kubectl("get", kinds, "--namespace", "shop", "--output", "yaml");
    await writeFile(file, namespaced);
    const files = await check(file, "--json");
    assert.deepEqual([cluster.code, files.code], [1, 1], "there is something to change");
    assert.deepEqual(findingsOf(cluster), findingsOf(files));
    const verdicts = Object.fromEntries(findingsOf(cluster).map(({ kind, name, verdict }) => [`${kind}/${name}`, verdict]));
    assert.equal(verdicts["InferenceService/broken"], "change");
    assert.equal(verdicts["InferenceService/standard"], "ignored");
    assert.equal(verdicts["ClusterServingRuntime/mlserver-1.x"], "differs");
    assert.doesNotMatch(cluster.stdout, /NOT-TO-BE-SEEN/);
  });

  test("goes on without what its account may not see, and says what that is", async () => {
    await plane.kubectl("create", "serviceaccount", "looker");
    await plane.kubectl("create", "clusterrole", "looker", "--verb=get,list", "--resource=inferenceservices.serving.kserve.io");
    await plane.kubectl("create", "clusterrolebinding", "looker", "--clusterrole=looker", "--serviceaccount=default:looker");
    const kubeconfig = await plane.kubeconfigFor("looker", (await plane.kubectl("create", "token", "looker")).trim());
    const { stdout, stderr } = await check("--cluster", "--kubeconfig", kubeconfig);
    assert.match(stderr, /^secrets: not looked at, this user may not list them$/m);
    assert.match(stderr, /^servingruntimes: not looked at/m);
    assert.match(stdout, /InferenceService shop\/broken/);
    assert.doesNotMatch(stdout, /Predictor/);
  });

  test("an API server that is not there, and files that are none, are told in a sentence", async () => {
    const gone = await check(join(plane.folder, "nothing.yaml"));
    assert.equal(gone.code, 1);
    assert.match(gone.stderr, /nothing\.yaml cannot be read/);
    assert.doesNotMatch(gone.stderr, /\n {4}at /);
    const both = await check("--cluster", installation);
    assert.match(both.stderr, /give files or --cluster, not both/);
  });
});

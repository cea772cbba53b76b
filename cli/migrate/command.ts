// Owns the words of `warmpath migrate check` on the command line, and where its objects come from: files, or an API server.
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import { parseAllDocuments } from "yaml";
import type { ResourceType } from "#controller/engine/objects.ts";
import { checkMigration, describeReport, listObjects } from "#controller/migrate/check.ts";
import { storageSecretOf } from "#controller/migrate/settings.ts";
import { StartupError, UsageError } from "#platform/lifecycle.ts";
import { storageRules } from "./rules.ts";

interface Options {
  readonly cluster?: boolean;
  readonly kubeconfig?: string;
  readonly namespace?: string;
  readonly json?: boolean;
}

const maxFileBytes = 64 << 20;
const maxFiles = 10_000;

export function addMigrate(program: Command, setExitCode: (code: number) => void): void {
  program
    .command("migrate")
    .description("move from KServe ModelMesh")
    .helpOption("-h, --help", "say this")
    .command("check")
    .description("read a ModelMesh installation and say what will work, what differs and what to change; changes nothing")
    .helpOption("-h, --help", "say this")
    .argument("[files...]", "files and folders of YAML or JSON; - for standard input")
    .option("--cluster", "read from an API server instead of files")
    .option("--kubeconfig <FILE>", "with --cluster: which one (default: as kubectl)")
    .option("--namespace <NAME>", "with --cluster: only this namespace (default: all)")
    .option("--json", "the report as one JSON object")
    .action(async (files: readonly string[], options: Options) => {
      if (options.cluster !== true && files.length === 0) throw new UsageError("name files or folders, or give --cluster");
      if (options.cluster === true && files.length > 0) throw new UsageError("give files or --cluster, not both");
      const objects = options.cluster === true ? await readCluster(options) : files.flatMap(readFiles);
      const report = checkMigration(objects, storageRules);
      process.stdout.write(`${options.json === true ? JSON.stringify(report) : describeReport(report)}\n`);
      setExitCode(report.counts.change > 0 ? 1 : 0);
    });
}

function readFiles(path: string): readonly unknown[] {
  if (path === "-") return parseDocuments(readFileSync(0, "utf8"), "standard input");
  const names = listFiles(path);
  if (names.length > maxFiles) throw new StartupError(`${path} holds more than ${maxFiles} files`);
  return names.flatMap((name) => parseDocuments(readFileSync(name, "utf8"), name));
}

function listFiles(path: string): readonly string[] {
  let stat: ReturnType<typeof statSync>;
  try {
    stat = statSync(path);
  } catch (cause) {
    throw new StartupError(`${path} cannot be read`, { cause });
  }
  if (!stat.isDirectory()) {
    if (stat.size > maxFileBytes) throw new StartupError(`${path} is larger than ${maxFileBytes} bytes`);
    return [path];
  }
  return readdirSync(path, { recursive: true, encoding: "utf8" })
    .filter((name) => /\.(?:ya?ml|json)$/.test(name))
    .sort()
    .map((name) => join(path, name));
}

function parseDocuments(source: string, name: string): readonly unknown[] {
  return parseAllDocuments(source).flatMap((document) => {
    const [error] = "errors" in document ? document.errors : [];
    if (error !== undefined) throw new StartupError(`${name} is no YAML: ${error.message.split("\n")[0] ?? ""}`);
    return listObjects("toJS" in document ? document.toJS({ maxAliasCount: 100 }) : undefined);
  });
}

/** Loaded only here: it takes half a second. */
async function readCluster({ kubeconfig, namespace }: Options): Promise<readonly unknown[]> {
  const [{ createKubeClient, KubeError }, kinds] = await Promise.all([
    import("#controller/engine/client.ts"),
    import("#controller/kinds.ts"),
  ]);
  const core = (plural: string, kind: string): ResourceType => ({ group: "", version: "v1", plural, kind, namespaced: true });
  const types = [
    kinds.servingRuntimes,
    kinds.clusterServingRuntimes,
    kinds.inferenceServices,
    kinds.predictors,
    // They may say how the secret is called.
    core("configmaps", "ConfigMap"),
    core("secrets", "Secret"),
  ];
  await using client = createKubeClient(kubeconfig);
  const found: unknown[] = [];
  const names = new Set(["storage-config", "model-serving-etcd", "model-serving-config", "model-serving-config-defaults"]);
  for (const type of types) {
    try {
      for (let continueFrom: string | undefined, more = true; more; ) {
        const page = await client.list(type, namespace, { limit: 500, continueFrom });
        // A list leaves out what kind its items are.
        for (const object of page.items) {
          if (type.group === "" && !names.has(object.metadata.name)) continue;
          if (type.kind === "ConfigMap") names.add(storageSecretOf(object) ?? object.metadata.name);
          found.push({ ...object.body, kind: type.kind });
        }
        continueFrom = page.continueFrom;
        more = continueFrom !== undefined;
      }
    } catch (error) {
      // Kinds that are not there, and what this user may not see, are told and passed over.
      if (!(error instanceof KubeError) || (error.status !== 404 && error.status !== 403)) throw error;
      const why = error.status === 404 ? "the API server has no such kind" : "this user may not list them";
      process.stderr.write(`${type.plural}: not looked at, ${why}\n`);
    }
  }
  return found;
}

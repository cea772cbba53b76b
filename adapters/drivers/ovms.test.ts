// Holds the driver of OpenVINO Model Server to the contract, over a server scripted from its documents.
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { systemClock } from "#platform/clock.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { waitFor } from "#platform/testing.ts";
import { openScripted, type Script } from "../testing/scripted.ts";
import type { Driver } from "./driver.ts";
import { createForeignDriver } from "./foreign.ts";
import { createOvms } from "./ovms.ts";
import { createRecord } from "./record.ts";
import { type DriverHarness, describeDriver } from "./suite.ts";

/** Failed models stay in its configuration, with what became of them. */
function scriptOf(configFile: string, isSlow: () => boolean, failed = new Map<string, string>()): Script {
  const state = (state: string, message = ""): unknown => ({
    model_version_status: [
      { version: "1", state, status: { error_code: message === "" ? "OK" : "UNKNOWN", error_message: message } },
    ],
  });
  return ({ method, path }, held) => {
    const one = /^\/v1\/models\/([^/]+)$/.exec(path)?.[1];
    if (path === "/v2/health/live") return { status: 200, body: "" };
    if (method === "POST" && path === "/v1/config/reload") {
      const list: { config: { name: string; base_path: string } }[] = JSON.parse(
        readFileSync(configFile, "utf8"),
      ).model_config_list;
      const names = new Set(list.map(({ config }) => config.name));
      for (const name of [...held.keys(), ...failed.keys()]) {
        // It answers the reload, and takes its time.
        if (names.has(name) || isSlow()) continue;
        held.delete(name);
        failed.delete(name);
      }
      for (const { config } of list) {
        if (held.has(config.name) || failed.has(config.name)) continue;
        const version = existsSync(config.base_path) ? readdirSync(config.base_path)[0] : undefined;
        const files = version === undefined ? [] : readdirSync(join(config.base_path, version));
        const xml = files.find((file) => file.endsWith(".xml"));
        const text =
          xml === undefined || version === undefined ? "broken" : readFileSync(join(config.base_path, version, xml), "utf8");
        if (text === "good") held.set(config.name, config.base_path);
        else failed.set(config.name, text === "large" ? "Cannot allocate memory" : "Cannot parse the model");
      }
      return failed.size > 0 ? { status: 400, body: { error: "Reloading models failed" } } : { status: 201, body: {} };
    }
    if (path === "/v1/config") {
      const good = [...held.keys()].map((name) => [name, state("AVAILABLE")] as const);
      const bad = [...failed].map(([name, message]) => [name, state("LOADING", message)] as const);
      return { status: 200, body: Object.fromEntries([...good, ...bad]) };
    }
    if (one !== undefined && held.has(one)) return { status: 200, body: state("AVAILABLE") };
    return { status: 404, body: { error: "Model with requested name is not found" } };
  };
}

interface OvmsHarness extends DriverHarness {
  readonly asked: readonly string[];
  readonly held: Map<string, string>;
  /** What is to be unloaded stays for a while. */
  setSlow(slow: boolean): void;
}

async function openHarness(): Promise<OvmsHarness> {
  const folder = await openRunFolder();
  const at = (...names: string[]): string => join(folder.path, ...names);
  for (const [name, text] of [
    ["good", "good"],
    ["broken", "no"],
    ["large", "large"],
  ] as const) {
    await mkdir(at(name));
    await writeFile(at(name, "model.xml"), text);
    await writeFile(at(name, "model.bin"), "weights");
  }
  const configFile = at("model_config_list.json");
  let slow = false;
  const server = await openScripted(scriptOf(configFile, () => slow));
  return {
    setSlow: (next) => (slow = next),
    held: server.held,
    openDriver: () =>
      createForeignDriver(
        createOvms({ address: server.address, repository: at("repository"), configFile }),
        createRecord(at("copies")),
        { clock: systemClock },
      ),
    asked: server.asked,
    format: "openvino_ir",
    goodPath: at("good"),
    brokenPath: at("broken"),
    absentPath: at("absent"),
    exhaustingPath: at("large"),
    kill: () => server.kill(),
    revive: () => server.revive(),
    hang: () => server.hang(),
    resume: () => server.resume(),
    forget: async (serverName) => void server.held.delete(serverName),
    async [Symbol.asyncDispose](): Promise<void> {
      await server[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

describeDriver("OpenVINO Model Server (scripted)", openHarness);

describe("what is special about OpenVINO Model Server", { timeout: 60_000 }, () => {
  test("changes meet in one reading, a bad model troubles no other, and a new adapter keeps what is listed", async () => {
    await using harness = await openHarness();
    const stop = new AbortController();
    const driver = harness.openDriver();
    const run = driver.start({ onUp: () => undefined, onLost: () => undefined }, stop.signal);
    await waitFor(() => driver.alive());
    const never = new AbortController().signal;
    const load = (on: Driver, serverName: string, path = harness.goodPath): ReturnType<Driver["load"]> =>
      on.load({ serverName, revision: "r1", path, format: "openvino_ir", expectedBytes: 1, signal: never });
    const reloads = (): number => harness.asked.filter((one) => one === "POST /v1/config/reload").length;
    const names = Array.from({ length: 20 }, (_, n) => `m${n}`);
    const loaded = await Promise.all([load(driver, "bad", harness.brokenPath), ...names.map((name) => load(driver, name))]);
    assert.deepEqual(
      loaded.map(({ kind }) => kind),
      ["failed", ...names.map(() => "ok")],
    );
    assert.ok(reloads() <= 6, `${reloads()} readings for 21 loads`);
    stop.abort();
    await run;
    await driver[Symbol.asyncDispose]();
    await using second = harness.openDriver();
    assert.equal((await load(second, "more")).kind, "ok");
    const listed = await second.list(never);
    assert.deepEqual(
      listed.kind === "ok" && listed.held.map(({ serverName }) => serverName).toSorted(),
      [...names, "more"].toSorted(),
    );
    assert.deepEqual(await second.unload("m3", never), { kind: "ok" });
    assert.equal(await second.ready("m3", "r1", never), false);
    assert.equal(await second.ready("m4", "r1", never), true);
  });

  test("an unload is done when the server does not hold it any more, not when it took the configuration", async () => {
    await using harness = await openHarness();
    await using driver = harness.openDriver();
    const never = new AbortController().signal;
    const request = { serverName: "m", revision: "r1", path: harness.goodPath, format: "openvino_ir", expectedBytes: 1 };
    assert.equal((await driver.load({ ...request, signal: never })).kind, "ok");
    harness.setSlow(true);
    let done = false;
    const unloaded = driver.unload("m", never).finally(() => (done = true));
    const states = (): number => harness.asked.filter((one) => one === "GET /v1/config").length;
    const asked = states();
    await waitFor(() => states() >= asked + 3);
    assert.equal(done, false);
    harness.held.delete("m");
    assert.deepEqual(await unloaded, { kind: "ok" });
  });
});

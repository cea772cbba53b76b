// Owns the conversation with OpenVINO Model Server: a configuration file that lists every model, and a call to read it anew.
// https://docs.openvino.ai/2024/ovms_docs_online_config_changes.html
//
// - All changes that come while the file is read meet in the next reading, since each costs the server a look at all models.
// - Neither a load nor an unload is done before the server's own state says so: memory is never reported free too early.
// - A model that does not load is taken out again, so that it troubles no later reading.
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { z } from "zod";
import { sleep } from "#platform/clock.ts";
import { parseJson } from "#platform/json.ts";
import { layoutOvms } from "../layout/ovms.ts";
import type { Failure } from "./driver.ts";
import type { Done, ForeignServer } from "./foreignserver.ts";
import { createHttpCaller, failedWith, unanswered, wordsOf } from "./http.ts";
import { createRepository } from "./repository.ts";

export interface OvmsOptions {
  /** `host:port` of its REST port. */
  readonly address: string;
  /** Where the trees of the models go. */
  readonly repository: string;
  /** Its --config_path. */
  readonly configFile: string;
  /** How long one reading of it may take, loads included; 300 s when absent. */
  readonly reloadTimeoutMs?: number | undefined;
}

const callTimeoutMs = 5_000;
const stateEveryMs = 100;

const configSchema = z.object({
  model_config_list: z.array(z.object({ config: z.object({ name: z.string(), base_path: z.string() }) })),
});
const versionSchema = z.object({
  state: z.string(),
  status: z.object({ error_code: z.string().default("OK"), error_message: z.string().default("") }).default({
    error_code: "OK",
    error_message: "",
  }),
});
const statesSchema = z.record(z.string(), z.object({ model_version_status: z.array(versionSchema).default([]) }));

type States = z.output<typeof statesSchema>;

export function createOvms({ address, repository, configFile, reloadTimeoutMs = 300_000 }: OvmsOptions): ForeignServer {
  const http = createHttpCaller(address);
  const models = createRepository({ folder: repository, namesMatter: false });
  /** Base paths by name: what the file says, or will. */
  const wanted = new Map<string, string>();
  let opening: Promise<void> | undefined;
  let applying: Promise<Done> | undefined;
  let next: Promise<Done> | undefined;

  /** What an adapter before this one listed stays listed. */
  const open = async (): Promise<void> => {
    const parsed = configSchema.safeParse(parseJson(await readFile(configFile, "utf8").catch(() => "")));
    for (const { config } of parsed.data?.model_config_list ?? []) wanted.set(config.name, config.base_path);
  };

  const applyOnce = async (): Promise<Done> => {
    const list = [...wanted].map(([name, base_path]) => ({ config: { name, base_path } }));
    await mkdir(dirname(configFile), { recursive: true });
    await writeFile(`${configFile}.part`, JSON.stringify({ model_config_list: list }));
    await rename(`${configFile}.part`, configFile);
    const never = new AbortController().signal;
    const path = "/v1/config/reload";
    const answer = await http.call({ method: "POST", path, body: {}, timeoutMs: reloadTimeoutMs, signal: never });
    if (answer.kind !== "answer") return unanswered(answer);
    // Whatever it says of the whole, each model's state is asked for; this may be the only reason it gives.
    return answer.status < 400 ? { kind: "ok" } : failedWith("model", "the configuration was not taken", wordsOf(answer));
  };

  const apply = async (): Promise<Done> => {
    if (applying === undefined) {
      applying = applyOnce().finally(() => {
        applying = undefined;
      });
      return await applying;
    }
    const before = applying;
    next ??= before
      .catch(() => undefined)
      .then(() => {
        next = undefined;
        return apply();
      });
    return await next;
  };

  const readStates = async (signal: AbortSignal): Promise<States | Failure> => {
    const answer = await http.call({ method: "GET", path: "/v1/config", timeoutMs: callTimeoutMs, signal });
    if (answer.kind !== "answer") return unanswered(answer);
    const states = statesSchema.safeParse(answer.json);
    return states.success ? states.data : failedWith("pod", "the states of the models cannot be read", wordsOf(answer));
  };

  const remove = async (serverName: string, signal: AbortSignal): Promise<Done> => {
    await (opening ??= open());
    const listed = wanted.delete(serverName);
    for (let first = true; ; first = false) {
      if (listed && first) {
        const applied = await apply();
        signal.throwIfAborted();
        if (applied.kind === "failed" && applied.failure === "pod") return applied;
      }
      const states = await readStates(signal);
      if (isFailure(states)) return states;
      const versions = states[serverName]?.model_version_status ?? [];
      if (versions.every(({ state }) => state === "END")) return { kind: "ok" };
      // It is there though the file does not list it: the file is read once more.
      if (!listed && first) await apply();
      await sleep(stateEveryMs, signal);
    }
  };

  return {
    keepsArtefact: true,
    address,
    http2: false,
    live: async (signal) => {
      const answer = await http.call({ method: "GET", path: "/v2/health/live", timeoutMs: callTimeoutMs, signal });
      return answer.kind === "answer" && answer.status < 500;
    },
    async index(signal): Promise<{ readonly kind: "ok"; readonly names: ReadonlySet<string> } | Failure> {
      const states = await readStates(signal);
      if (isFailure(states)) return states;
      const there = Object.entries(states).filter(([, model]) => isAvailable(model));
      return { kind: "ok", names: new Set(there.map(([name]) => name)) };
    },
    async ready(serverName, signal): Promise<boolean | undefined> {
      const path = `/v1/models/${serverName}`;
      const answer = await http.call({ method: "GET", path, timeoutMs: callTimeoutMs, signal });
      if (answer.kind !== "answer") return undefined;
      if (answer.status === 404) return false;
      const state = z.object({ model_version_status: z.array(versionSchema) }).safeParse(answer.json);
      return state.success ? isAvailable(state.data) : undefined;
    },
    async load(request): Promise<Done> {
      await (opening ??= open());
      const { serverName, signal } = request;
      const made = await models.make(request, { plan: layoutOvms, isText: () => false });
      if (made.kind === "failed") return made;
      wanted.set(serverName, made.folder);
      const applied = await apply();
      signal.throwIfAborted();
      if (applied.kind === "failed" && applied.failure === "pod") return applied;
      for (;;) {
        const states = await readStates(signal);
        if (isFailure(states)) return states;
        const model = states[serverName];
        if (model !== undefined && isAvailable(model)) return { kind: "ok" };
        const versions = model?.model_version_status ?? [];
        const bad = versions.find(({ state, status }) => state === "END" || status.error_code !== "OK");
        if (versions.length === 0 || bad !== undefined) {
          const removed = await remove(serverName, signal);
          if (removed.kind === "failed") return removed;
          const reason = applied.kind === "failed" ? applied.reason : "";
          return failedWith("model", "OpenVINO Model Server could not load it", bad?.status.error_message || reason);
        }
        await sleep(stateEveryMs, signal);
      }
    },
    unload: remove,
    forget: async (serverName) => {
      wanted.delete(serverName);
      await models.remove(serverName);
    },
    [Symbol.asyncDispose]: () => http[Symbol.asyncDispose](),
  };
}

function isAvailable({ model_version_status: versions }: States[string]): boolean {
  return versions.some(({ state }) => state === "AVAILABLE");
}

function isFailure(states: States | Failure): states is Failure {
  return states["kind"] === "failed";
}

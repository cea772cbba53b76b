// Owns the conversation with MLServer over its REST port, with the repository extension of the Open Inference Protocol.
// https://mlserver.readthedocs.io/en/latest/reference/api/
//
// Each load and each index makes MLServer read every model-settings.json below its root. So what a copy consists of lies
// beside that root, and a link into it stands there only for as long as a load takes: a load costs the same with one copy
// held and with a thousand. The index then knows nothing, and what is held is asked for by name.
//
// Of what a runtime throws MLServer answers over REST everything (its setting `debug`, which is on unless it is turned off) or
// nothing; over gRPC the words of it. So where REST says nothing, the load is asked for once more there.

import { mkdir, readdir, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { status as codes } from "@grpc/grpc-js";
import { longestLoadMs } from "#core/loadqueue.ts";
import { createClient, type ServiceClient } from "#platform/grpc.ts";
import { GRPCInferenceService, RepositoryModelLoadRequestSchema } from "#proto/gen/inference/open_inference_pb.ts";
import { layoutMlserver, settingsName } from "../layout/mlserver.ts";
import type { Failure, LoadRequest } from "./driver.ts";
import type { Done, ForeignServer } from "./foreignserver.ts";
import { ask, channelOptions } from "./grpc.ts";
import { type Answer, createHttpCaller, failedWith, type HttpCaller, unanswered, wordsOf } from "./http.ts";
import { fileName } from "./record.ts";
import { createRepository, type Layout, type Repository } from "./repository.ts";

export interface MlserverOptions {
  /** `host:port` of its REST port. */
  readonly address: string;
  readonly grpcAddress: string;
  /** The folder that it was started on. */
  readonly root: string;
}

type MlserverClient = ServiceClient<typeof GRPCInferenceService>;

const callTimeoutMs = 5_000;

const internal: number = codes.INTERNAL;
const unsaid: Failure = { kind: "failed", failure: "model", reason: "MLServer could not load it, and its log says why" };

export function createMlserver({ address, grpcAddress, root }: MlserverOptions): ForeignServer {
  const http = createHttpCaller(address);
  const client = createClient(GRPCInferenceService, grpcAddress, undefined, { channel: channelOptions });
  const held = createRepository({ folder: `${root}.held`, namesMatter: false });
  let emptied: Promise<void> | undefined;
  return {
    keepsArtefact: true,
    address,
    http2: false,
    live: async (signal) => {
      const answer = await http.call({ method: "GET", path: "/v2/health/live", timeoutMs: callTimeoutMs, signal });
      return answer.kind === "answer" && answer.status === 200;
    },
    async ready(serverName, signal): Promise<boolean | undefined> {
      const path = `/v2/models/${serverName}/ready`;
      const answer = await http.call({ method: "GET", path, timeoutMs: callTimeoutMs, signal });
      if (answer.kind !== "answer") return undefined;
      if (answer.status === 200) return true;
      return answer.status === 404 || answer.status === 400 ? false : undefined;
    },
    async load(request): Promise<Done> {
      // An adapter that died in a load left its link behind, which every later load would read.
      await (emptied ??= empty(root, held));
      const { serverName } = request;
      const layout: Layout = {
        plan: (asked, folder) => layoutMlserver({ ...asked, serverName, folder }),
        isText: (file) => file === settingsName || file.endsWith(`/${settingsName}`),
      };
      const made = await held.make(request, layout);
      if (made.kind === "failed") return made;
      const shown = join(root, fileName(serverName));
      try {
        await symlink(made.folder, shown);
        return (await askLoad(http, request)) ?? (await askWords(client, request));
      } finally {
        await rm(shown, { force: true });
      }
    },
    async unload(serverName, signal): Promise<Done> {
      const answer = await post(http, `/v2/repository/models/${serverName}/unload`, callTimeoutMs, signal);
      if (answer.kind !== "answer") return unanswered(answer);
      if (answer.status === 200 || isUnknown(answer)) return { kind: "ok" };
      return failedWith("pod", `unloading was answered with status ${answer.status}`, wordsOf(answer));
    },
    forget: (serverName) => held.remove(serverName),
    async [Symbol.asyncDispose](): Promise<void> {
      client[Symbol.dispose]();
      await http[Symbol.asyncDispose]();
    },
  };
}

async function empty(root: string, held: Repository): Promise<void> {
  await mkdir(root, { recursive: true });
  for (const entry of await readdir(root, { withFileTypes: true })) {
    // Only what a load of ours can have left: who runs the server may keep other things there.
    if (entry.isSymbolicLink()) await rm(join(root, entry.name), { force: true });
  }
  await mkdir(held.folder, { recursive: true });
}

/** Undefined: its runtime threw something, and MLServer does not say what. */
async function askLoad(http: HttpCaller, { serverName, signal }: LoadRequest): Promise<Done | undefined> {
  const answer = await post(http, `/v2/repository/models/${serverName}/load`, longestLoadMs, signal);
  if (answer.kind !== "answer") return unanswered(answer);
  const words = wordsOf(answer);
  if (answer.status === 200) return { kind: "ok" };
  // With parallel workers: theirs is the fault, and whoever asks them anew finds them started anew.
  if (/worker process/i.test(words)) return failedWith("pod", "a worker of MLServer died", words);
  if (answer.status === 500) {
    // Of a worker it is said in JSON.
    const thrown = answer.json === undefined ? thrownIn(words) : words;
    return thrown === undefined ? undefined : failedWith("model", "MLServer could not load it", thrown);
  }
  if (answer.status === 404) return failedWith("model", "MLServer could not use its settings, and its log says why", words);
  if (answer.status >= 400 && answer.status < 500) return failedWith("model", "MLServer refused it", words);
  return failedWith("pod", `loading was answered with status ${answer.status}`, words);
}

async function askWords(client: MlserverClient, { serverName, signal }: LoadRequest): Promise<Done> {
  const message = create(RepositoryModelLoadRequestSchema, { modelName: serverName });
  const called = await ask(client.repositoryModelLoad(message, { timeoutMs: longestLoadMs, signal }), signal);
  if (called.kind === "ok") return { kind: "ok" };
  // Python's own MemoryError among others has none.
  const thrown = called.code === internal ? called.details : "";
  return thrown === "" ? unsaid : failedWith("model", "MLServer could not load it", thrown);
}

/** The exception at the end of a traceback of Python's; undefined: it is none. */
export function thrownIn(text: string): string | undefined {
  const lines = text.trimEnd().split("\n");
  const frame = lines.findLastIndex((line) => line.startsWith('  File "'));
  const at = lines.findIndex((line, index) => index > frame && /^\S/.test(line));
  return frame < 0 || at < 0 ? undefined : lines.slice(at).join(" ");
}

async function post(http: HttpCaller, path: string, timeoutMs: number, signal: AbortSignal): Promise<Answer> {
  return await http.call({ method: "POST", path, body: {}, timeoutMs, signal });
}

/** "Model NAME not found", and not that this server has no such path. */
function isUnknown(answer: Extract<Answer, { readonly kind: "answer" }>): boolean {
  return answer.status === 404 && answer.json !== undefined && /not found/i.test(wordsOf(answer));
}

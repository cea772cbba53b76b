// Owns callers that a cluster knows: a token is reviewed by the API server (TokenReview), and so is what its account may do
// (LocalSubjectAccessReview): `get` of managements.warmpath.dev is to look, `update` to change.
// Invariants: what is remembered ends after a while and is bounded, by the token's hash alone; one review of a token at a time,
// few at once; what cannot be a token of a cluster asks nothing of the API server; without its answer nobody is let in.
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Agent, request } from "undici";
import { isRecord } from "#core/fields.ts";
import type { Clock } from "#platform/clock.ts";
import type { Log } from "#platform/log.ts";
import type { Caller, Callers } from "./callers.ts";

export interface KubeCallersOptions {
  /** `https://host:port`. */
  readonly api: string;
  /** With `token` and `ca.crt`, as pods have them; read anew for each review, since they are renewed. */
  readonly accountFolder: string;
  /** Whose rights count. */
  readonly namespace: string;
  readonly clock: Clock;
  readonly log: Log;
}

const knownMs = 60_000;
const unknownMs = 10_000;
const maxRemembered = 1_000;
const maxReviews = 8;
const callMs = 5_000;
const maxAnswerBytes = 1 << 20;
const maxTokenLength = 16_384;
const tokenForm = /^[\w-]+\.[\w-]+\.[\w-]+$/;

export const managementResource = { group: "warmpath.dev", resource: "managements" } as const;

interface Remembered {
  readonly caller: Caller | undefined;
  readonly untilMs: number;
}

export function createKubeCallers(options: KubeCallersOptions): Callers & AsyncDisposable {
  const { namespace, clock, log } = options;
  /** In the order of arrival. */
  const remembered = new Map<string, Remembered>();
  const underWay = new Map<string, Promise<Caller | undefined>>();
  let connection: { readonly ca: string; readonly agent: Agent } | undefined;

  async function review(path: string, body: unknown): Promise<Readonly<Record<string, unknown>>> {
    const read = (name: string): Promise<string> => readFile(join(options.accountFolder, name), "utf8");
    const [token, ca] = await Promise.all([read("token"), read("ca.crt")]);
    if (connection?.ca !== ca) {
      void connection?.agent.close().catch(() => undefined);
      connection = { ca, agent: new Agent({ connect: { ca }, connections: maxReviews, maxResponseSize: maxAnswerBytes }) };
    }
    const answer = await request(`${options.api}${path}`, {
      method: "POST",
      dispatcher: connection.agent,
      headers: { authorization: `Bearer ${token.trim()}`, "content-type": "application/json", accept: "application/json" },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(callMs),
    });
    const json: unknown = await answer.body.json();
    if (answer.statusCode >= 300 || !isRecord(json) || !isRecord(json["status"]))
      throw new Error(`the API server answered a review with ${answer.statusCode}`);
    return json["status"];
  }

  async function ask(token: string): Promise<Caller | undefined> {
    const said = await review("/apis/authentication.k8s.io/v1/tokenreviews", {
      apiVersion: "authentication.k8s.io/v1",
      kind: "TokenReview",
      spec: { token },
    });
    const { user } = said;
    if (said["authenticated"] !== true || !isRecord(user) || typeof user["username"] !== "string") return undefined;
    const name = user["username"];
    const may = async (verb: string): Promise<boolean> => {
      const access = await review(`/apis/authorization.k8s.io/v1/namespaces/${namespace}/localsubjectaccessreviews`, {
        apiVersion: "authorization.k8s.io/v1",
        kind: "LocalSubjectAccessReview",
        metadata: { namespace },
        spec: {
          user: name,
          groups: user["groups"],
          uid: user["uid"],
          extra: user["extra"],
          resourceAttributes: { ...managementResource, namespace, verb },
        },
      });
      return access["allowed"] === true && access["denied"] !== true;
    };
    const [writes, reads] = await Promise.all([may("update"), may("get")]);
    return { name, role: writes ? "write" : reads ? "read" : "none" };
  }

  async function askOnce(token: string, key: string): Promise<Caller | undefined> {
    try {
      const caller = await ask(token);
      remember(key, { caller, untilMs: clock.monotonicMs() + (caller === undefined ? unknownMs : knownMs) });
      return caller;
    } catch (error) {
      log.warn("the API server could not say whose a management token is", { error });
      return undefined;
    } finally {
      underWay.delete(key);
    }
  }

  function remember(key: string, told: Remembered): void {
    remembered.delete(key);
    remembered.set(key, told);
    const [oldest] = remembered.keys();
    if (remembered.size > maxRemembered && oldest !== undefined) remembered.delete(oldest);
  }

  return {
    async find(token) {
      if (token.length > maxTokenLength || !tokenForm.test(token)) return undefined;
      const key = createHash("sha256").update(token).digest("base64");
      const known = remembered.get(key);
      if (known !== undefined && clock.monotonicMs() < known.untilMs) return known.caller;
      const already = underWay.get(key);
      if (already !== undefined) return await already;
      if (underWay.size >= maxReviews) return undefined;
      const asked = askOnce(token, key);
      underWay.set(key, asked);
      return await asked;
    },
    async [Symbol.asyncDispose]() {
      await connection?.agent.destroy();
    },
  };
}

/** The first that knows the token. */
export function eitherCallers(all: readonly Callers[]): Callers | undefined {
  if (all.length === 0) return undefined;
  return {
    async find(token) {
      for (const callers of all) {
        const caller = await callers.find(token);
        if (caller !== undefined) return caller;
      }
      return undefined;
    },
  };
}

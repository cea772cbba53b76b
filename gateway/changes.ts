// Owns how a model's record is changed: read, rewritten by a pure function, written by compare-and-set, and again when
// somebody else was first. Bounded: a registry that does not answer is told in words within a few seconds, never waited for.
import { createHash } from "node:crypto";
import type { ErrorCode } from "#core/errors.ts";
import type { Model } from "#core/model.ts";
import type { Refusal } from "#core/revision.ts";
import type { Log } from "#platform/log.ts";
import { deleteModel, modelKey, parseModelRecord, putModel } from "#platform/registry/records.ts";
import type { Registry } from "#platform/registry/registry.ts";

export type Rewrite =
  | { readonly kind: "put"; readonly model: Model }
  | { readonly kind: "delete" }
  | { readonly kind: "keep" }
  | Refusal;

export interface Rewritten {
  readonly kind: "ok";
  /** Undefined when it is not registered any more. */
  readonly model: Model | undefined;
  readonly was: Model | undefined;
  readonly written: boolean;
}

/** `rewrite` may be called several times: each time with what is registered at that moment. */
export type ChangeModel = (
  name: string,
  rewrite: (known: Model | undefined) => Rewrite,
  /** What becomes of a record that cannot be read: refused when absent. */
  options?: { readonly malformed?: "delete" },
) => Promise<Rewritten | Refusal>;

const patienceMs = 5_000;
const maxTries = 10;

/** The same for the same record, whoever tells it: what `If-Match` and `expect` compare. */
export function etagOf(model: Model): string {
  return createHash("sha256").update(JSON.stringify(model)).digest("hex").slice(0, 20);
}

/** `missing`: models that the registry came back without; nothing is written while there are any. */
export function createChanges(registry: Registry, missing: () => number, log: Log): ChangeModel {
  async function tryOnce(...[name, rewrite, options]: Parameters<ChangeModel>): Promise<Rewritten | Refusal | "again"> {
    const stored = await registry.get(modelKey(name));
    const parsed = stored === undefined ? undefined : parseModelRecord(stored.value);
    if (parsed?.kind === "refused" && options?.malformed !== "delete")
      return refuse("already-exists", `the record of model '${name}' cannot be read (${parsed.reason}): unregister it first`);
    const was = parsed?.kind === "ok" ? parsed.value : undefined;
    const wanted: Rewrite = parsed?.kind === "refused" ? { kind: "delete" } : rewrite(was);
    switch (wanted.kind) {
      case "refused":
        return wanted;
      case "keep":
        return { kind: "ok", model: was, was, written: false };
      case "delete": {
        if (stored === undefined) return { kind: "ok", model: undefined, was, written: false };
        const gone = await deleteModel(registry, name, stored.revision);
        return gone.kind === "ok" ? { kind: "ok", model: undefined, was, written: true } : "again";
      }
      case "put": {
        const put = await putModel(registry, wanted.model, stored?.revision ?? "absent");
        if (put.kind === "ok") return { kind: "ok", model: wanted.model, was, written: true };
        if (put.kind === "conflict") return "again";
        if (put.kind === "too large")
          return refuse("invalid-request", `the record of model '${name}' would be over ${put.limitBytes} bytes`);
        throw new Error(`the registry refused ${modelKey(name)}: ${put.kind}`);
      }
    }
  }

  return async (name, rewrite, options) => {
    const lost = missing();
    // What is written to a registry that has lost models would make it harder to tell what is true.
    if (lost > 0) return refuse("registry-replaced", `${lostModels(lost)}: ${waysOut}`);
    const over = new AbortController();
    const trying = async (): Promise<Rewritten | Refusal> => {
      for (let tries = 0; tries < maxTries && !over.signal.aborted; tries++) {
        const done = await tryOnce(name, rewrite, options);
        if (done !== "again") return done;
      }
      return refuse("conflict", `model '${name}' is being changed by others all the time: try again`);
    };
    try {
      return await within(patienceMs, trying());
    } catch (error) {
      log.warn("a model could not be changed: the registry does not answer", { model: name, error });
      return awayRefusal;
    } finally {
      over.abort();
    }
  };
}

const waysOut = "restore them (POST /api/v1/registry/restore), or restart all gateways to go on with what it has";

function lostModels(count: number): string {
  return `the registry came back without ${count} models that this gateway knows`;
}

/** Nothing of the error goes to the caller: it may name the registry's addresses. */
export const awayRefusal: Refusal = refuse(
  "registry-unavailable",
  "the registry does not answer: nothing can be registered or changed now, while what is registered is served on; a change that was under way may still come about",
);

/** Rejects when it takes longer; what goes on then is left to itself. */
export async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const late = setTimeout(() => reject(new Error(`no answer within ${ms} ms`)), ms);
  work.catch(() => undefined);
  try {
    return await Promise.race([work, promise]);
  } finally {
    clearTimeout(late);
  }
}

function refuse(code: ErrorCode, reason: string): Refusal {
  return { kind: "refused", code, reason };
}

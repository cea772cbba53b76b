// Owns what the tests of a delta session stand on.
import assert from "node:assert/strict";
import {
  createDeltaSession,
  type DeltaRequest,
  type DeltaResponse,
  type DeltaSession,
  type ResourceView,
  type SessionEffect,
  type SessionLimits,
} from "./session.ts";

export interface Fixture {
  readonly session: DeltaSession;
  request(typeUrl: string, rest?: Partial<DeltaRequest>): readonly SessionEffect[];
  /** All that is due now. */
  sent(): readonly DeltaResponse[];
  /** Changes the table; undefined takes a resource away. */
  set(typeUrl: string, changes: Record<string, string | undefined>): void;
  /** The one response that is due now. */
  one(): DeltaResponse;
  ack(response: DeltaResponse, rest?: Partial<DeltaRequest>): readonly SessionEffect[];
  nack(response: DeltaResponse, message?: string): readonly SessionEffect[];
}

/** A table, a session on it, and short words for what goes in and out. */
export function fixture(
  initial: Record<string, Record<string, string>> = {},
  limits: Partial<SessionLimits> = {},
  needs: NonNullable<ResourceView["needs"]> = () => undefined,
): Fixture {
  const table = new Map<string, Map<string, string>>();
  for (const [typeUrl, resources] of Object.entries(initial)) table.set(typeUrl, new Map(Object.entries(resources)));
  const session = createDeltaSession(
    {
      get: (typeUrl, name) => {
        const version = table.get(typeUrl)?.get(name);
        return version === undefined ? undefined : { version, bytes: Buffer.from(`${name}@${version}`) };
      },
      names: (typeUrl) => table.get(typeUrl)?.keys() ?? [],
      needs,
    },
    limits,
  );
  const request = (typeUrl: string, rest: Partial<DeltaRequest> = {}): readonly SessionEffect[] =>
    session.handle({
      kind: "request",
      request: { typeUrl, responseNonce: "", subscribe: [], unsubscribe: [], initialResourceVersions: {}, ...rest },
    });
  const sent = (): DeltaResponse[] => {
    const all: DeltaResponse[] = [];
    for (let next = session.next(); next !== undefined; next = session.next()) all.push(next);
    return all;
  };
  return {
    session,
    request,
    sent,
    set: (typeUrl: string, changes: Record<string, string | undefined>): void => {
      const resources = table.get(typeUrl) ?? new Map<string, string>();
      table.set(typeUrl, resources);
      for (const [name, version] of Object.entries(changes)) {
        if (version === undefined) resources.delete(name);
        else resources.set(name, version);
      }
      session.handle({ kind: "changed", typeUrl, names: Object.keys(changes) });
    },
    one: (): DeltaResponse => {
      const all = sent();
      assert.equal(all.length, 1, `one response was due, not ${JSON.stringify(all.map(short))}`);
      return all[0] ?? assert.fail();
    },
    ack: (response: DeltaResponse, rest: Partial<DeltaRequest> = {}): readonly SessionEffect[] =>
      request(response.typeUrl, { responseNonce: response.nonce, ...rest }),
    nack: (response: DeltaResponse, message = "bad"): readonly SessionEffect[] =>
      request(response.typeUrl, { responseNonce: response.nonce, errorDetail: message }),
  };
}

export function short(response: DeltaResponse): string {
  return [...response.resources.map((r) => `${r.name}@${r.version}`), ...response.removed.map((name) => `-${name}`)].join(" ");
}

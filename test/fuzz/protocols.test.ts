// Bytes and messages that no peer should send: codecs refuse them with an error and nothing else, the session of xDS goes on, and
// addresses and settings of storage are refused in words that hold none of their secrets.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { parseAddress, showAddress } from "#adapters/pull/address.ts";
import { parseEntry } from "#adapters/pull/settings/entry.ts";
import { parseStorageUri } from "#core/fields.ts";
import { decodeAccessLogs } from "#gateway/accesslog.ts";
import { decodeProcessing } from "#gateway/extproc/codec.ts";
import { decodeDeltaRequest } from "#xds/protocol/codec.ts";
import { createDeltaSession, typeUrls } from "#xds/protocol/session.ts";
import { mutated } from "./mutate.ts";

const numRuns = 20_000;

/** Wire format, roughly: fields that nest, with lengths that fit or do not. */
const { message } = fc.letrec<{ message: readonly number[]; field: readonly number[] }>((tie) => ({
  message: fc.array(tie("field"), { maxLength: 5, depthIdentifier: "wire" }).map((fields) => fields.flat()),
  field: fc.oneof(
    { depthIdentifier: "wire", maxDepth: 5 },
    fc.tuple(fc.nat(20), fc.nat(127)).map(([number, value]) => [...key(number, 0), value]),
    fc
      .tuple(fc.nat(20), fc.uint8Array({ maxLength: 20 }), fc.constantFrom(0, 0, 0, 1, -1, 100))
      .map(([number, bytes, add]) => [...key(number, 2), (bytes.length + add + 128) % 128, ...bytes]),
    fc.tuple(fc.nat(20), tie("message")).map(([number, inner]) => [...key(number, 2), inner.length % 128, ...inner]),
    fc.tuple(fc.nat(20), fc.nat(7)).map(([number, wire]) => key(number, wire)),
  ),
}));

function key(number: number, wire: number): number[] {
  const value = number * 8 + wire;
  return value < 128 ? [value] : [(value % 128) + 128, Math.floor(value / 128)];
}

const bytes = fc.oneof(
  message.map((list) => Buffer.from(list)),
  fc.uint8Array({ maxLength: 300 }).map((list) => Buffer.from(list)),
);

describe("bytes that no peer should send", () => {
  for (const [name, decode] of [
    ["ext_proc", decodeProcessing],
    ["access logs", decodeAccessLogs],
    ["xDS", decodeDeltaRequest],
  ] as const) {
    test(`${name}: read, or refused with an error`, () => {
      fc.assert(
        fc.property(bytes, (given) => {
          try {
            decode(given);
          } catch (error) {
            const isOurs = error instanceof TypeError && !("code" in error);
            assert.ok(error instanceof Error && !isOurs, String(error));
          }
        }),
        { numRuns },
      );
    });
  }
});

test("a session of xDS answers requests in any order, with any nonce and name, and stays bounded", () => {
  const names = fc.array(fc.oneof(fc.constantFrom("*", "a", "b", "__proto__", ""), fc.string()), { maxLength: 4 });
  const known = ["a", "b", "c"];
  const request = fc.record({
    typeUrl: fc.oneof(fc.constantFrom(...Object.values(typeUrls)), fc.string()),
    responseNonce: fc.oneof(fc.constantFrom("", "1", "2", "3"), fc.string()),
    subscribe: names,
    unsubscribe: names,
    initialResourceVersions: fc.dictionary(fc.string(), fc.string(), { maxKeys: 3 }),
    errorDetail: fc.option(fc.string(), { nil: undefined }),
  });
  const changes = fc.record({
    typeUrl: fc.constantFrom(...Object.values(typeUrls)),
    names: fc.array(fc.constantFrom("a", "b", "c"), { maxLength: 3 }),
  });
  fc.assert(
    fc.property(fc.array(fc.oneof({ weight: 3, arbitrary: request }, changes), { maxLength: 60 }), (steps) => {
      const session = createDeltaSession({
        get: (_, name) => (known.includes(name) ? { version: "1", bytes: new Uint8Array(10) } : undefined),
        names: () => known,
      });
      for (const each of steps) {
        if ("names" in each) session.handle({ kind: "changed", ...each });
        else {
          const { errorDetail, ...request } = each;
          session.handle({ kind: "request", request: errorDetail === undefined ? request : { ...request, errorDetail } });
        }
        // One response of a type is under way at a time, whatever is asked.
        const sent = Array.from({ length: 20 }, () => session.next()).filter((response) => response !== undefined);
        assert.ok(sent.length <= Object.keys(typeUrls).length, `${sent.length} responses at once`);
        for (const { resources } of sent) assert.ok(resources.every(({ name }) => known.includes(name)));
      }
    }),
    { numRuns: 3_000 },
  );
});

const secret = "s3cr3t-of-a-user";

describe("storage", () => {
  const scheme = fc.constantFrom("s3", "gs", "azure", "https", "http", "pvc", "hf", "oci", "file", "storage", "ftp", "S3");
  const part = fc.oneof(
    fc.constantFrom("bucket", "..", ".", "%2e%2e", "a b", "[::1]", "a:80", "*", "\u202e", "a@b", `user:${secret}@host`),
    fc.string({ maxLength: 10 }),
  );
  const address = fc
    .tuple(
      scheme,
      fc.constantFrom("://", ":", ":///", ":/"),
      fc.array(part, { maxLength: 4 }),
      fc.constantFrom("", "?a=b", `?X-Amz-Signature=${secret}`, "#x"),
    )
    .map(([of, colon, path, end]) => `${of}${colon}${path.join("/")}${end}`);

  test("addresses are understood or refused in words, and shown without what they hold of secrets", () => {
    fc.assert(
      fc.property(fc.oneof(address, fc.string()), (uri) => {
        const parsed = parseAddress(uri);
        const shown = parsed.kind === "ok" ? showAddress(parsed.address) : parsed.reason;
        assert.ok(parsed.kind === "ok" || parsed.reason.length < 500);
        // A path is the user's to name.
        if (/^https?:/.test(uri) && !(URL.canParse(uri) && new URL(uri).pathname.includes("user:")))
          assert.ok(!shown.includes(secret), `${uri} is shown as ${shown}`);
        if (parsed.kind === "ok" && "path" in parsed.address) assert.ok(!parsed.address.path.split("/").includes(".."), uri);
      }),
      // A host with an empty port: what looks like a user there is a path.
      { numRuns, examples: [[`http://&:/user:${secret}@host`], [`http:/user:${secret}@host`]] },
    );
  });

  test("an address with a password is no model's", () => {
    fc.assert(
      fc.property(address, (uri) => {
        const registered = parseStorageUri(uri);
        if (registered.kind === "refused") assert.ok(!registered.reason.includes(secret));
        else if (URL.canParse(uri) && /^https?:\/\//.test(uri)) assert.equal(new URL(uri).password, "", uri);
      }),
      { numRuns },
    );
  });

  const entries = [
    {
      type: "s3",
      access_key_id: "a",
      secret_access_key: secret,
      session_token: secret,
      endpoint_url: "https://h",
      region: "r",
      bucket: "b",
      certificate: "c",
    },
    { type: "gcs", bucket: "b", private_key: secret, client_email: "e", token_uri: "https://t" },
    { type: "azure", account_name: "a", container: "c", client_id: "i", client_secret: secret, tenant_id: "t" },
    { type: "http", url: "https://h", headers: { authorization: secret }, bearer_token: secret },
    { type: "hf", token: secret },
    { type: "oci", username: "u", password: secret },
    { type: "pvc", name: "claim", parameters: ["name"] },
  ];
  test("settings are understood or refused in words, never with a secret in them", () => {
    fc.assert(
      fc.property(fc.oneof(...entries.map(mutated), fc.anything()), (value) => {
        const parsed = parseEntry(JSON.stringify(value) ?? "");
        if (parsed.kind === "malformed") assert.ok(parsed.reason.length < 500 && !parsed.reason.includes(secret), parsed.reason);
      }),
      { numRuns },
    );
    fc.assert(
      fc.property(fc.string(), (text) => void parseEntry(text)),
      { numRuns },
    );
  });
});

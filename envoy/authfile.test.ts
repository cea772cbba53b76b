import assert from "node:assert/strict";
import { test } from "node:test";
import { parseAuth } from "./authfile.ts";

const issuer = "{ name: corp, issuer: https://i.example, audiences: [warmpath], jwks: { uri: https://i.example/keys } }";

test("an auth file is read, with what goes without saying", () => {
  const auth = parseAuth(`jwt: [${issuer}]\nclientCertificates: uri\n`);
  assert.equal(auth.apiKeys, true);
  assert.equal(auth.clientCertificates, "uri");
  const [corp] = auth.jwt;
  assert.deepEqual([corp?.principalClaim, corp?.rememberTokens], ["sub", 0]);
  assert.ok(corp?.jwks.kind === "uri");
  assert.deepEqual([corp.jwks.uri.href, corp.jwks.cacheSeconds], ["https://i.example/keys", 300]);
  assert.deepEqual(parseAuth(""), { jwt: [], apiKeys: true, clientCertificates: undefined });
});

const refusals: readonly (readonly [text: string, reason: RegExp])[] = [
  ["jwt: [", /no YAML/],
  ["jwt: [{ name: corp }]", /issuer/],
  [`jwt: [${issuer}, ${issuer}]`, /names must differ/],
  [`jwt: [${issuer.replace("[warmpath]", "[]")}]`, /at least one/],
  [`jwt: [${issuer.replace("https://i.example/keys", "ftp://i.example/keys")}]`, /jwks/],
  [`jwt: [${issuer.replace("name: corp", "name: corp, rememberTokens: -1")}]`, /remember-tokens must be at least 0/],
  ["clientCertificates: cn", /client-?certificates/i],
  ["anonymous: true", /anonymous/],
  ["- a", /bad --auth/],
];
for (const [text, reason] of refusals) {
  test(`an auth file that cannot be meant is refused: ${text}`, () => {
    assert.throws(() => parseAuth(text), reason);
  });
}

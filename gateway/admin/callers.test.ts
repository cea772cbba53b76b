import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { createRecordingLog, type RecordingLog } from "#platform/testing.ts";
import { parseCallers } from "./callers.ts";
import { addRoute, ok } from "./route.ts";
import { createAdmin } from "./server.ts";

const hash = (token: string): string => createHash("sha256").update(token).digest("hex");
const callers = parseCallers(
  `tokens:\n  - { name: ops, role: write, sha256: ${hash("ops-token")} }\n  - { name: look, role: read, sha256: ${hash("look-token")} }\n`,
);

function openAdmin(): { app: ReturnType<typeof createAdmin>; log: RecordingLog } {
  const log = createRecordingLog();
  const app = createAdmin({
    log,
    callers,
    routes: [
      (scope) => {
        for (const [method, url] of [
          ["GET", "/api/v1/things"],
          ["PUT", "/api/v1/things"],
          ["GET", "/healthz"],
          ["GET", "/metrics"],
          ["GET", "/"],
        ] as const) {
          const isOpen = url === "/" || url === "/healthz";
          addRoute(scope, { method, url, isOpen, summary: "A thing.", answers: { 200: "It." }, handle: () => ok({}) });
        }
      },
    ],
  });
  return { app, log };
}

const table: readonly (readonly [method: "GET" | "PUT", url: string, token: string | undefined, status: number])[] = [
  ["GET", "/healthz", undefined, 200],
  ["GET", "/", undefined, 200],
  ["GET", "/api/v1/things", undefined, 401],
  ["GET", "/metrics", undefined, 401],
  ["GET", "/api/v1/nothing", undefined, 401],
  ["GET", "/api/v1/openapi.json", undefined, 401],
  ["GET", "/%61pi/v1/things", undefined, 401],
  ["PUT", "/api/v1/thing%73", "look-token", 403],
  ["GET", "//api/v1/things", undefined, 401],
  ["GET", "/api/v1/things", "wrong", 401],
  ["GET", "/api/v1/things", "look-token", 200],
  ["GET", "/metrics", "look-token", 200],
  ["PUT", "/api/v1/things", "look-token", 403],
  ["PUT", "/api/v1/things", "ops-token", 200],
  ["PUT", "/api/v1/things", undefined, 401],
];
for (const [method, url, token, status] of table) {
  test(`${method} ${url} with ${token ?? "no token"}: ${status}`, async () => {
    const { app } = openAdmin();
    const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
    const answer = await app.inject({ method, url, headers });
    assert.equal(answer.statusCode, status, answer.body);
  });
}

test("a browser gets a cookie that scripts and other sites cannot use", async () => {
  const { app } = openAdmin();
  const session = await app.inject({ method: "POST", url: "/api/v1/session", payload: { token: "look-token" } });
  const cookie = String(session.headers["set-cookie"]);
  assert.match(cookie, /HttpOnly; SameSite=Strict$/);
  const [pair = ""] = cookie.split(";");
  assert.equal((await app.inject({ url: "/api/v1/things", headers: { cookie: `a=b; ${pair}` } })).statusCode, 200);
  assert.equal((await app.inject({ method: "PUT", url: "/api/v1/things", headers: { cookie: pair } })).statusCode, 403);
  assert.equal((await app.inject({ url: "/api/v1/things", headers: { cookie: "warmpath-token=%E0%A4%A" } })).statusCode, 401);
  for (const payload of [{ token: "wrong" }, { token: 1 }, {}]) {
    assert.equal((await app.inject({ method: "POST", url: "/api/v1/session", payload })).statusCode, 401);
  }
});

test("a page of the gateway's own name, behind an ingress with TLS, signs in and out; another site does neither", async () => {
  const { app } = openAdmin();
  const call = (method: "POST" | "DELETE", origin: string) =>
    app.inject({
      method,
      url: "/api/v1/session",
      headers: { host: "warm.example", origin },
      ...(method === "POST" ? { payload: { token: "look-token" } } : {}),
    });
  assert.match(String((await call("POST", "https://warm.example")).headers["set-cookie"]), /; Secure$/);
  assert.match(String((await call("DELETE", "https://warm.example")).headers["set-cookie"]), /warmpath-token=;.*Max-Age=0$/);
  for (const origin of ["https://evil.example", "https://warm.example.evil", "null"]) {
    assert.equal((await call("POST", origin)).statusCode, 403, origin);
  }
});

test("whether one has to sign in, and is, is told to everybody", async () => {
  const { app } = openAdmin();
  const ask = async (headers = {}) => (await app.inject({ url: "/api/v1/session", headers })).json();
  assert.deepEqual(await ask(), { login: true, caller: null });
  assert.deepEqual(await ask({ authorization: "Bearer ops-token" }), { login: true, caller: { name: "ops", role: "write" } });
  const open = createAdmin({ log: createRecordingLog(), routes: [] });
  assert.deepEqual((await open.inject({ url: "/api/v1/session" })).json(), { login: false, caller: null });
});

test("changes are recorded with who made them, never with the token", async () => {
  const { app, log } = openAdmin();
  await app.inject({ method: "PUT", url: "/api/v1/things", headers: { authorization: "Bearer ops-token" } });
  await app.inject({ url: "/api/v1/things", headers: { authorization: "Bearer ops-token" } });
  assert.deepEqual(
    log.lines.map(({ message, keys }) => [message, keys]),
    [["a management change", { caller: "ops", method: "PUT", path: "/api/v1/things", status: 200 }]],
  );
  assert.ok(!JSON.stringify(log.lines).includes("ops-token"));
});

for (const text of [
  "",
  "tokens: []",
  "tokens: [{ name: a, role: admin, sha256: x }]",
  "tokens: [{ name: a, role: read, token: x }]",
  "[",
]) {
  test(`a file of tokens that cannot be meant is refused: ${text}`, () => {
    assert.throws(() => parseCallers(text), /admin-tokens/);
  });
}

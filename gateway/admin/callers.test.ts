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
          addRoute(scope, { method, url, summary: "A thing.", answers: { 200: "It." }, handle: () => ok({}) });
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
  assert.match(cookie, /HttpOnly; SameSite=Strict/);
  const [pair = ""] = cookie.split(";");
  assert.equal((await app.inject({ url: "/api/v1/things", headers: { cookie: `a=b; ${pair}` } })).statusCode, 200);
  assert.equal((await app.inject({ method: "PUT", url: "/api/v1/things", headers: { cookie: pair } })).statusCode, 403);
  assert.equal((await app.inject({ url: "/api/v1/things", headers: { cookie: "warmpath-token=%E0%A4%A" } })).statusCode, 401);
  for (const payload of [{ token: "wrong" }, { token: 1 }, {}]) {
    assert.equal((await app.inject({ method: "POST", url: "/api/v1/session", payload })).statusCode, 401);
  }
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

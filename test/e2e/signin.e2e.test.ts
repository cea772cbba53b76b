// The live page of a gateway that wants tokens, in a real browser: it shows nothing before somebody signed in, the token is
// where no script can read it, other sites cannot use it, and it ends with signing out.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { findFreePorts } from "#cli/up/ports.ts";
import { nodeProgram } from "#cli/up/processes.ts";
import { superviseProcess } from "#platform/process.ts";
import { openRegistry } from "#platform/registry/open.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { findBarriers } from "../harness/axe.ts";
import { openBrowser } from "../harness/chromium.ts";
import { waitUntil } from "../harness/wait.ts";

const token = "look-7f3a9c1e";
const stack = new AsyncDisposableStack();
let url: string;
let browser: Browser;
let context: BrowserContext;
let page: Page;
const asked: string[] = [];

before(async () => {
  const { path: folder } = stack.use(await openRunFolder());
  const registry = join(folder, "registry.db");
  stack.use(await openRegistry({ kind: "embedded", file: registry }));
  const tokens = join(folder, "tokens.yaml");
  const sha256 = createHash("sha256").update(token).digest("hex");
  await writeFile(tokens, JSON.stringify({ tokens: [{ name: "looker", role: "read", sha256 }] }));
  const [port = 0] = (await findFreePorts("127.0.0.1", 12)).slice(11);
  const flags = {
    "gateway-id": "gateway-0",
    socket: join(folder, "gateway.sock"),
    registry,
    "admin-port": port,
    "admin-tokens": tokens,
  };
  const gateway = stack.use(
    superviseProcess({
      name: "gateway",
      ...nodeProgram("gateway/main.ts", flags),
      restart: { kind: "never" },
      readyLine: /^\{"ready":true/,
      readyTimeoutMs: 60_000,
    }),
  );
  await gateway.ready;
  url = `http://127.0.0.1:${port}`;
  browser = await openBrowser();
  context = await browser.newContext();
  page = await context.newPage();
  page.on("request", (request) => asked.push(new URL(request.url()).pathname));
});
after(async () => {
  await browser?.close();
  await stack.disposeAsync();
});

const says = (selector: string, wanted: RegExp): Promise<string> =>
  waitUntil(
    `${selector} says ${wanted}`,
    () => page.locator(selector).innerText(),
    (text) => wanted.test(text),
    30_000,
  );

test("before somebody signs in it asks for a token, and for nothing else", async () => {
  await page.goto(url);
  await page.locator("#signin").waitFor({ state: "visible" });
  assert.equal(await page.evaluate("document.activeElement.id"), "token");
  assert.equal(await page.locator("#token").getAttribute("type"), "password");
  assert.deepEqual(await findBarriers(page), []);
  await page.keyboard.press("Escape");
  await page.locator("#signin").waitFor({ state: "visible" });
  assert.deepEqual(
    asked.filter((path) => path.startsWith("/api/") && path !== "/api/v1/session"),
    [],
  );
  assert.ok(!asked.includes("/page/events"));
});

for (const path of ["/page/events", "/%70age/events", "/api/v1/stats", "/%61pi/v1/stats", "/api/v1/%73tats", "/metrics", "/no"]) {
  test(`${path} is closed to whoever has no token`, async () => {
    assert.equal((await fetch(url + path)).status, 401);
  });
}

test("a wrong token is said to be one", async () => {
  await page.locator("#token").fill("wrong");
  await page.keyboard.press("Enter");
  await says("#signin [role=alert]", /no such token/);
});

test("with the right one it is live, and no script sees the token", async () => {
  await page.locator("#token").fill(token);
  await page.keyboard.press("Enter");
  await says("#link", /^live$/);
  await says("#caller", /looker, may look/);
  const seen = await page.evaluate("document.cookie + JSON.stringify({...localStorage}) + document.documentElement.outerHTML");
  assert.ok(!String(seen).includes(token));
  const [cookie] = await context.cookies();
  assert.ok(cookie?.httpOnly === true && cookie.sameSite === "Strict");
  await page.reload();
  await says("#link", /^live$/);
});

test("a form or a script on another site changes and reads nothing, though the browser is signed in", async () => {
  const evil = createServer((_request, response) => response.setHeader("content-type", "text/html").end("<h1>elsewhere</h1>"));
  stack.defer(() => void evil.close());
  await new Promise<void>((resolve) => evil.listen(0, "127.0.0.2", resolve));
  const other = await context.newPage();
  await other.goto(`http://127.0.0.2:${(evil.address() as AddressInfo).port}`);
  const read = await other.evaluate(
    `fetch("${url}/api/v1/stats", { credentials: "include" }).then((a) => a.status, () => "refused")`,
  );
  assert.equal(read, "refused");
  const [answer] = await Promise.all([
    other.waitForResponse((response) => response.url().startsWith(url)),
    other.evaluate(`(() => {
      const form = document.createElement("form");
      form.method = "POST";
      form.action = "${url}/api/v1/registry/restore";
      document.body.append(form);
      form.submit();
    })()`),
  ]);
  assert.ok([401, 403].includes(answer.status()), `${answer.status()}`);
  await other.close();
});

test("signing out ends it", async () => {
  await page.locator("#caller button").click();
  await page.locator("#signin").waitFor({ state: "visible" });
  assert.deepEqual(await context.cookies(), []);
});

// The live page in a real browser on a real fleet: what it shows is so, it moves as the fleet does, it is worked by keyboard and
// read as tables, nothing comes from elsewhere. With UPDATE_DOCS=1 the pictures in docs/images are taken anew.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import type { Browser, Page } from "playwright-core";
import { findBarriers } from "../harness/axe.ts";
import { openBrowser } from "../harness/chromium.ts";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { waitUntil } from "../harness/wait.ts";

let fleet: TestFleet;
let browser: Browser;
let page: Page;
const complaints: string[] = [];
const foreign: string[] = [];
const deadlineMs = 60_000;

before(async () => {
  fleet = await openFleet({ pods: 3, capacityBytes: 2 * 2 ** 20 });
  browser = await openBrowser();
  page = await browser.newPage({ viewport: { width: 1280, height: 900 }, colorScheme: "light" });
  page.setDefaultTimeout(deadlineMs);
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(`${error}`));
  page.on("request", (request) => {
    if (!request.url().startsWith(fleet.adminUrl)) foreign.push(request.url());
  });
  await page.goto(fleet.adminUrl);
});
after(async () => {
  await browser?.close();
  await fleet?.[Symbol.asyncDispose]();
});

const text = (selector: string): Promise<string> => page.locator(selector).innerText();

test("it is live, and shows the numbers of the fleet", async () => {
  await waitUntil(
    "the page is live",
    () => text("#link"),
    (said) => said === "live",
    deadlineMs,
  );
  await waitUntil(
    "registered models are told",
    () => text("#numbers"),
    (said) => said.includes(fleet.oracle.models.length.toLocaleString("en-US")),
    deadlineMs,
  );
});

test("a load is seen as it happens", async () => {
  const before = await text("#events");
  assert.ok(!before.includes("iris-t0007"));
  await fleet.asker.ask("iris-t0007", "rest");
  await waitUntil(
    "the load is told",
    () => text("#events"),
    (said) => /iris-t0007 is ready on pod-\d/.test(said),
    deadlineMs,
  );
});

test("pods and copies can be read as tables, and a model opened from there", async () => {
  for (const model of fleet.oracle.models.slice(0, 40)) await fleet.asker.ask(model, "rest");
  await page.locator("#as-table").click();
  await waitUntil(
    "the tables have the pods and the model",
    () => text("#tables"),
    (said) => ["pod-0", "pod-1", "pod-2", "iris-t0007"].every((name) => said.includes(name)),
    deadlineMs,
  );
  assert.equal(await page.locator("#as-table").getAttribute("aria-pressed"), "true");
  await page.locator("#as-table").click();
});

test("by keyboard alone: through the picture to a model, and out again", async () => {
  await page.locator("#columns").focus();
  await page.keyboard.press("ArrowUp");
  await waitUntil(
    "a copy is pointed at",
    async () => {
      await page.keyboard.press("ArrowUp");
      return await text("#pointed");
    },
    (said) => / on pod-\d: /.test(said),
    deadlineMs,
  );
  const [name = ""] = (await text("#pointed")).split(" on ");
  assert.equal(await page.locator("#model").isVisible(), false);
  await page.keyboard.press("Enter");
  await waitUntil(
    "its page is there",
    () => text("#model"),
    (said) =>
      [name, "is ready: revision", "Copies", "Revisions", "Why it is so", "What happened to it"].every((part) =>
        said.includes(part),
      ),
    deadlineMs,
  );
  assert.equal(await page.locator("#model").isVisible(), true);
  await page.keyboard.press("Escape");
  assert.equal(await page.locator("#model").isVisible(), false);
  await page.locator("#name").fill("no-such-model");
  await page.keyboard.press("Enter");
  await waitUntil(
    "an unknown model is said to be one",
    () => text("#model"),
    (said) => /not|no model/i.test(said),
    deadlineMs,
  );
  await page.keyboard.press("Escape");
});

test("slow requests are drawn with their steps", async () => {
  await waitUntil(
    "a slow request is there",
    () => text("#slow"),
    (said) => said.includes("park") && said.includes("place") && said.includes("ms"),
    deadlineMs,
  );
});

for (const colorScheme of ["light", "dark"] as const) {
  test(`in ${colorScheme}, nothing stands in the way of assistive technology: the fleet, its tables, a model`, async () => {
    await page.emulateMedia({ colorScheme });
    assert.deepEqual(await findBarriers(page), []);
    await page.locator("#as-table").click();
    assert.deepEqual(await findBarriers(page), []);
    await page.locator("#tables button").first().click();
    await page.locator("#model table").first().waitFor({ state: "visible" });
    assert.deepEqual(await findBarriers(page), []);
    await page.keyboard.press("Escape");
    await page.locator("#as-table").click();
  });
}

test("on a narrow screen nothing is wider than the page, a model's page included", async () => {
  const narrow = await browser.newPage({ viewport: { width: 320, height: 640 } });
  try {
    await narrow.goto(fleet.adminUrl);
    await narrow.locator(".steps li").first().waitFor({ state: "attached" });
    assert.equal(await narrow.evaluate("document.documentElement.scrollWidth"), 320);
    await narrow.locator("#name").fill("iris-t0007");
    await narrow.keyboard.press("Enter");
    await narrow.locator("#model table").first().waitFor({ state: "visible" });
    assert.ok(await narrow.evaluate("model.scrollWidth <= model.clientWidth"));
  } finally {
    await narrow.close();
  }
});

test("twenty thousand copies are drawn within a moment", async () => {
  const took = await page.evaluate(`(async () => {
    const { createColumns } = await import("/page/columns.mjs");
    const canvas = document.createElement("canvas");
    canvas.style.cssText = "width:1200px;height:380px;display:block";
    document.body.append(canvas);
    const pod = (name) => [name, { facts: { pod: name, capacityBytes: 6e8, usedBytes: 5e8, reachable: true }, copies: new Map(Array.from({ length: 5000 }, (_, at) => [name + at, { model: name + at, revision: "r", state: "ready", sizeBytes: 1e5 + (at % 7) * 1e3 }])) }];
    const columns = createColumns(canvas, new Map(["a", "b", "c", "d"].map(pod)), () => {}, () => {});
    const start = performance.now();
    for (let round = 0; round < 5; round++) { columns.changed(); columns.refresh(); }
    canvas.remove();
    return (performance.now() - start) / 5;
  })()`);
  // A bound that only a cost which grows with the square would break.
  assert.ok(Number(took) < 5_000, `${Number(took)} ms`);
});

test("nothing came from elsewhere, nothing was complained of, and the browser would let nothing in", async () => {
  assert.deepEqual(foreign, []);
  assert.deepEqual(
    complaints.filter((line) => !line.includes("404")),
    [],
  );
  const answer = await fetch(fleet.adminUrl);
  const policy = answer.headers.get("content-security-policy") ?? "";
  assert.match(policy, /default-src 'none'/);
  assert.doesNotMatch(policy, /unsafe|https?:|\*/);
  assert.doesNotMatch(await answer.text(), /<script(?![^>]*src=)|\sstyle=|\son\w+=/);
});

if (process.env["UPDATE_DOCS"] === "1") {
  test("pictures for the docs", async () => {
    for (const colorScheme of ["light", "dark"] as const) {
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize({ width: 1280, height: 1280 });
      await page.locator("#name").fill("");
      await page.mouse.move(0, 0);
      for (let round = 0; round < 40; round++) await fleet.asker.ask(fleet.oracle.models[(round * 7) % 40]!, "rest");
      // The picture is redrawn twice a second.
      await page.waitForTimeout(2_000);
      await shoot(`page-${colorScheme}`);
      await page.locator("#name").fill("iris-t0007");
      await page.keyboard.press("Enter");
      await page.locator("#model table").first().waitFor({ state: "visible" });
      await shoot(`page-model-${colorScheme}`);
      await page.keyboard.press("Escape");
    }
  });
}

async function shoot(name: string): Promise<void> {
  await page.screenshot({ path: fileURLToPath(new URL(`../../docs/images/${name}.png`, import.meta.url)) });
}

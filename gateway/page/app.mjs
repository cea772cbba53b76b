// Owns the page: what the stream of events says becomes one picture of the fleet, redrawn at most four times a second.
import { createChart } from "./chart.mjs";
import { createColumns } from "./columns.mjs";
import { count, ms } from "./dom.mjs";
import { showModel, showNumbers, showQueue, showSlow, showTables, tellEvent } from "./panels.mjs";
import { signedIn } from "./signin.mjs";

const byId = (id) => document.getElementById(id);
const fleet = new Map();
const byModel = new Map();
const open = (model) => void showModel(byId("model"), model);
const columns = createColumns(byId("columns"), fleet, (text) => (byId("pointed").textContent = text), open);
const charts = {
  hits: createChart(byId("hits"), "loading", count),
  misses: createChart(byId("misses"), "warm", count),
  waits: createChart(byId("waits"), "hot", ms),
};
let before;
let slowKey = "";

function setPods(pods) {
  const there = new Set(pods.map(({ pod }) => pod));
  for (const pod of fleet.keys()) if (!there.has(pod)) fleet.delete(pod);
  for (const facts of pods) {
    const known = fleet.get(facts.pod);
    if (known === undefined) {
      fleet.set(facts.pod, { facts, copies: new Map() });
      columns.changed();
    } else known.facts = facts;
  }
}

function setCopy(podId, [model, revision, state, sizeBytes]) {
  const pod = fleet.get(podId);
  if (pod === undefined) return;
  const key = `${model}@${revision}`;
  columns.changed();
  if (state === "gone") {
    const was = pod.copies.get(key);
    pod.copies.delete(key);
    byModel.get(model)?.delete(was);
    if (byModel.get(model)?.size === 0) byModel.delete(model);
    return;
  }
  const copy = pod.copies.get(key) ?? { model, revision, usedMs: undefined };
  copy.state = state;
  copy.sizeBytes = sizeBytes;
  pod.copies.set(key, copy);
  const copies = byModel.get(model) ?? new Set();
  byModel.set(model, copies.add(copy));
}

function onNow({ pods, numbers, uses }) {
  setPods(pods);
  for (const [model] of uses) for (const copy of byModel.get(model) ?? []) copy.usedMs = performance.now();
  showNumbers(byId("numbers"), numbers);
  showQueue(byId("queue"), pods);
  const atMs = performance.now();
  if (before !== undefined) {
    const seconds = Math.max(0.1, (atMs - before.atMs) / 1_000);
    const rate = (name) => Math.max(0, (numbers[name] ?? 0) - (before.numbers[name] ?? 0)) / seconds;
    charts.hits.add(rate("hits"));
    charts.misses.add(rate("misses"));
    charts.waits.add(numbers.missP99Ms ?? 0);
    byId("hits-now").textContent = count(rate("hits"));
    byId("misses-now").textContent = count(rate("misses"));
    byId("waits-now").textContent = ms(numbers.missP99Ms);
  }
  before = { numbers, atMs };
}

function connect() {
  const events = new EventSource("/page/events");
  const on = (name, handle) => events.addEventListener(name, ({ data }) => handle(JSON.parse(data)));
  const state = byId("link");
  on("fleet", (pods) => {
    fleet.clear();
    byModel.clear();
    setPods(pods);
  });
  on("copies", ({ pod, copies }) => copies.forEach((copy) => setCopy(pod, copy)));
  on("whole", () => {
    state.textContent = "live";
    state.className = "live";
    columns.refresh();
  });
  on("changes", (changes) => {
    for (const [pod, copy] of changes) setCopy(pod, copy);
    for (const [pod, [model, , what]] of changes.slice(-12)) tellEvent(byId("events"), what, model, pod);
  });
  on("now", onNow);
  events.addEventListener("error", () => {
    state.textContent = "the gateway does not answer; trying again";
    state.className = "";
    // A browser gives up on a refusal, such as after the token was taken away; on anything else it tries again by itself.
    if (events.readyState === EventSource.CLOSED) setTimeout(() => void follow(), 2_000);
  });
}

async function follow() {
  await signedIn(byId("signin"), byId("caller"));
  connect();
}

async function readSlow() {
  try {
    const answer = await fetch("/api/v1/slow-requests");
    if (!answer.ok) return;
    const { requests } = await answer.json();
    const key = requests.map(({ atMs }) => atMs).join();
    if (key !== slowKey) showSlow(byId("slow"), requests, open);
    slowKey = key;
  } catch {
    // The state of the stream says that the gateway is away.
  }
}

byId("find").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = byId("name").value.trim();
  if (name !== "") open(name);
});
byId("as-table").addEventListener("click", () => {
  const shown = byId("tables").hidden;
  byId("tables").hidden = !shown;
  byId("picture").hidden = shown;
  byId("as-table").setAttribute("aria-pressed", `${shown}`);
  if (shown) showTables(byId("tables"), fleet, open);
});
setInterval(() => {
  if (document.hidden) return;
  if (byId("tables").hidden) columns.refresh();
  else if (!byId("tables").contains(document.activeElement)) showTables(byId("tables"), fleet, open);
}, 500);
await follow();
setInterval(() => void (document.hidden || readSlow()), 3_000);
void readSlow();

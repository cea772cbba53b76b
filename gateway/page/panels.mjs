// Owns the parts beside the picture: numbers, queues, what happens, slow requests, one model, the tables.
import { bytes, count, el, ms, svg, table } from "./dom.mjs";

const classes = ["users wait", "ensure", "scale-up", "migrate", "proactive"];
const maxEvents = 12;
const maxRows = 500;

export function showNumbers(list, numbers) {
  const { usedBytes, capacityBytes, hits, misses } = numbers;
  const asked = (hits ?? 0) + misses;
  const rows = [
    ["Warm models", count(numbers.warm), `of ${count(numbers.models)}`],
    ["Hit share", asked === 0 ? "–" : `${((100 * (hits ?? 0)) / asked).toFixed(2)} %`, `${count(hits)} hits`],
    ["Time of a hit", ms(numbers.hitP50Ms), `p99 ${ms(numbers.hitP99Ms)}`],
    ["Wait of a miss", ms(numbers.missP50Ms), `p99 ${ms(numbers.missP99Ms)}`],
    ["Waiting now", count(numbers.waiting), `${count(numbers.loading)} loading`],
    ["Memory", `${Math.round((100 * usedBytes) / Math.max(1, capacityBytes))} %`, `of ${bytes(capacityBytes)}`],
    ["Evictions", count(numbers.evictions), `${count(numbers.loads)} loads`],
    ["Refused", count(numbers.refused + numbers.failed), `${count(numbers.reroutes)} reroutes`],
  ];
  list.replaceChildren(
    ...rows.map(([name, value, more]) => el("div", {}, el("dt", {}, name), el("dd", {}, value, " ", el("small", {}, more)))),
  );
}

export function showQueue(place, pods) {
  const rows = classes.map((name, at) => [
    name,
    count(pods.reduce((sum, { queuedByClass }) => sum + (queuedByClass[at] ?? 0), 0)),
  ]);
  place.replaceChildren(table("By class, all pods", [["class"], ["loads", "number"]], rows));
}

export function tellEvent(list, state, model, pod) {
  const verbs = { loading: "loads", ready: "is ready", leaving: "leaves", failed: "failed", queued: "is queued" };
  const verb = verbs[state];
  if (verb === undefined) return;
  const time = new Date().toLocaleTimeString("en-GB");
  list.prepend(el("li", {}, el("time", {}, time), el("i", { class: `dot ${state}` }), `${model} ${verb} on ${pod}`));
  while (list.children.length > maxEvents) list.lastElementChild.remove();
}

export function showSlow(place, requests, onOpen) {
  if (requests.length === 0) return;
  const open = new Set([...place.querySelectorAll("details[open]")].map((each) => each.dataset.key));
  place.replaceChildren(
    ...requests.slice(0, 12).map((request, at) => {
      const key = `${request.atMs}`;
      const time = new Date(request.atMs).toLocaleTimeString("en-GB");
      const made = el(
        "details",
        {},
        el(
          "summary",
          {},
          el("b", {}, ms(request.tookMs)),
          ` ${request.model} `,
          el(
            "span",
            { class: request.failure === undefined ? "hint" : "bad-text" },
            `${request.failure ?? request.kind}, ${time}`,
          ),
        ),
        waterfall(request),
        el("button", { type: "button", class: "plain", onclick: () => onOpen(request.model) }, `Show ${request.model}`),
      );
      made.dataset.key = key;
      if (open.has(key) || (open.size === 0 && at === 0)) made.setAttribute("open", "");
      return made;
    }),
  );
}

function waterfall({ steps, tookMs, traceId }) {
  const bars = steps.flatMap((step) => {
    const end = step.toMs ?? tookMs;
    // A pod's part: first in its queue, then loading.
    if (step.name === "ask" && step.loadingMs !== undefined) {
      return [
        { ...step, name: "in the pod's queue", toMs: step.loadingMs },
        { ...step, name: "pull and load", fromMs: step.loadingMs, toMs: end, kind: "load" },
      ];
    }
    return [{ ...step, toMs: end, kind: step.name === "pull" || step.name === "load" ? "load" : undefined }];
  });
  const share = (value) => (100 * value) / Math.max(tookMs, 0.001);
  const items = bars.map(({ name, depth, fromMs, toMs, failure, facts, kind }) => {
    const width = Math.max(0.4, share(toMs - fromMs));
    const bar = svg(
      "svg",
      { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("rect", { class: "track", width: 100, height: 10 }),
      svg("rect", {
        class: `span ${failure === undefined ? (kind ?? "") : "bad"}`,
        x: Math.min(99.6, share(fromMs)),
        width,
        height: 10,
      }),
    );
    const where = facts.pod ?? facts.gateway;
    const label = el("span", { class: `depth-${Math.min(depth, 3)}` }, `${name}${where === undefined ? "" : `: ${where}`}`);
    return el("li", {}, label, bar, ms(toMs - fromMs));
  });
  return el(
    "div",
    {},
    el("ul", { class: "steps" }, ...items),
    traceId === undefined ? undefined : el("p", { class: "hint" }, `trace ${traceId}`),
  );
}

export async function showModel(dialog, name) {
  const close = el("button", { type: "button", onclick: () => dialog.close() }, "Close");
  const title = el("header", {}, el("h2", { id: "model-title" }, name), close);
  dialog.replaceChildren(title, el("p", {}, "…"));
  if (!dialog.open) dialog.showModal();
  const [model, explained] = await Promise.all(
    ["", "/explain"].map((part) => ask(`/api/v1/models/${encodeURIComponent(name)}${part}`)),
  );
  if (model.error !== undefined) return dialog.replaceChildren(title, el("p", { role: "alert" }, model.error));
  const copies = (model.copies ?? []).map((copy) => [
    copy.pod,
    copy.revision,
    copy.state,
    bytes(copy.sizeBytes ?? 0),
    copy.failure?.reason ?? "",
  ]);
  const revisions = (model.revisions ?? []).map((revision) => [
    `${revision.id}${revision.id === model.active ? " (active)" : revision.id === model.target ? " (target)" : ""}`,
    revision.format,
    revision.storageUri,
  ]);
  return dialog.replaceChildren(
    title,
    ...(explained.lines ?? []).map((line) => el("p", {}, line)),
    copies.length === 0
      ? el("p", {}, "No copies: the next request loads one.")
      : table("Copies", [["pod", "long"], ["revision", "long"], ["state"], ["bytes", "number"], ["failure", "long"]], copies),
    table("Revisions", [["revision", "long"], ["format"], ["storage", "long"]], revisions),
    ...decisionsOf(explained),
    ...historyOf(explained),
  );
}

function historyOf({ events }) {
  if (!Array.isArray(events) || events.length === 0) return [];
  const rows = events
    .slice(0, 24)
    .map(({ atMs, what, revision, pod, reason }) => [
      new Date(atMs).toLocaleTimeString("en-GB"),
      what,
      revision ?? "",
      pod ?? "",
      reason ?? "",
    ]);
  return [table("What happened to it", [["time"], ["what"], ["revision", "long"], ["pod", "long"], ["why", "long"]], rows)];
}

function decisionsOf(explained) {
  const decisions = explained.decisions ?? [];
  if (!Array.isArray(decisions) || decisions.length === 0) return [];
  const rows = decisions
    .slice(0, 16)
    .map((decision) => [
      decision.atMs === undefined ? `${decision.at ?? ""}` : new Date(decision.atMs).toLocaleTimeString("en-GB"),
      `${decision.kind ?? ""}`,
      `${decision.podId ?? decision.pod ?? ""}`,
      `${decision.reason ?? ""}`,
    ]);
  return [table("Why it is so: the latest decisions", [["time"], ["what"], ["pod", "long"], ["why", "long"]], rows)];
}

async function ask(url) {
  try {
    const answer = await fetch(url, { headers: { accept: "application/json" } });
    return await answer.json();
  } catch (error) {
    return { error: String(error) };
  }
}

export function showTables(place, fleet, onOpen) {
  const pods = [...fleet.values()].sort((a, b) => a.facts.pod.localeCompare(b.facts.pod, "en", { numeric: true }));
  const facts = pods.map(({ facts, copies }) => [
    facts.pod,
    facts.reachable ? "yes" : "no",
    count(copies.size),
    bytes(facts.usedBytes),
    bytes(facts.capacityBytes),
    count(facts.queued),
  ]);
  const all = pods.flatMap(({ facts, copies }) => [...copies.values()].map((copy) => ({ copy, pod: facts.pod })));
  const rows = all
    .slice(0, maxRows)
    .map(({ copy, pod }) => [
      el("button", { type: "button", class: "plain", onclick: () => onOpen(copy.model) }, copy.model),
      pod,
      copy.state,
      bytes(copy.sizeBytes),
    ]);
  place.replaceChildren(
    table(
      "Pods",
      [["pod"], ["reachable"], ["copies", "number"], ["used", "number"], ["capacity", "number"], ["queued", "number"]],
      facts,
    ),
    rows.length === 0
      ? el("p", { class: "hint" }, "No copies: the first request for a model loads one.")
      : table(
          rows.length === all.length ? "Copies" : `Copies, the first ${count(rows.length)} of ${count(all.length)}`,
          [["model", "long"], ["pod", "long"], ["state"], ["bytes", "number"]],
          rows,
        ),
  );
}

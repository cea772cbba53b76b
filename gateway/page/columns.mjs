// Owns the picture of the fleet: each pod a column, each copy a block as large as its memory, coloured by how lately it was
// used. On a canvas: 20,000 blocks are drawn in some milliseconds. What is drawn is laid out anew only when copies came or
// went; colours age once a second.
import { bytes, color } from "./dom.mjs";
import { pack } from "./packing.mjs";

const gap = 14;
const head = 34;
const lukewarmMs = 60_000;
const hotMs = 5_000;

/** `fleet`: Map of pod -> { facts, copies: Map of key -> { model, revision, state, sizeBytes, usedMs } } */
export function createColumns(canvas, fleet, onPoint, onOpen) {
  let layout = [];
  let dirty = true;
  let chosen;

  function place() {
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    const pods = [...fleet.values()].sort((a, b) => a.facts.pod.localeCompare(b.facts.pod, "en", { numeric: true }));
    const across = Math.max(1, pods.length);
    const columnWidth = Math.max(24, (width - gap * (across - 1)) / across);
    layout = pods.map((pod, at) => {
      const x = at * (columnWidth + gap);
      const room = height - head - 4;
      const copies = [...pod.copies.values()].filter(({ state }) => state !== "queued").sort((a, b) => b.sizeBytes - a.sizeBytes);
      const column = { width: columnWidth, height: room, bytes: pod.facts.capacityBytes };
      const packed = pack(
        copies.map(({ sizeBytes }) => sizeBytes),
        column,
      );
      const boxes = packed.map((box, nth) => ({ ...box, copy: copies[nth], x: x + box.x, y: head + box.y }));
      return { pod, x, width: columnWidth, boxes };
    });
  }

  function draw() {
    const scale = globalThis.devicePixelRatio || 1;
    canvas.width = canvas.clientWidth * scale;
    canvas.height = canvas.clientHeight * scale;
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    const colors = Object.fromEntries(
      ["hot", "warm", "cool", "loading", "leaving", "failed", "empty", "text", "soft", "card", "accent"].map((name) => [
        name,
        color(name),
      ]),
    );
    const nowMs = performance.now();
    for (const { pod, x, width, boxes } of layout) {
      const { facts } = pod;
      context.fillStyle = colors.empty;
      context.fillRect(x, head, width, canvas.clientHeight - head);
      for (const box of boxes) {
        const { copy } = box;
        context.fillStyle = colors[tone(copy, nowMs)];
        const line = box.width > 3 && box.height > 3 ? 1 : 0;
        context.fillRect(box.x, box.y, Math.max(0.5, box.width - line), Math.max(0.5, box.height - line));
      }
      context.fillStyle = facts.reachable ? colors.text : colors.failed;
      context.font = "600 13px system-ui, sans-serif";
      context.fillText(facts.pod, x, 13, width);
      context.fillStyle = colors.soft;
      context.font = "12px system-ui, sans-serif";
      const full = Math.round((100 * facts.usedBytes) / Math.max(1, facts.capacityBytes));
      context.fillText(`${boxes.length} copies, ${bytes(facts.usedBytes)}, ${full} %`, x, 28, width);
    }
    if (chosen !== undefined) {
      context.strokeStyle = colors.accent;
      context.lineWidth = 3;
      context.strokeRect(chosen.x - 1, chosen.y - 1, Math.max(6, chosen.width + 1), Math.max(6, chosen.height + 1));
    }
  }

  function boxAt(x, y) {
    const column = layout.find((each) => x >= each.x && x <= each.x + each.width);
    return column?.boxes.find((box) => x >= box.x && x <= box.x + box.width && y >= box.y && y <= box.y + box.height);
  }

  function point(box) {
    chosen = box;
    draw();
    const pod = layout.find(({ boxes }) => boxes.includes(box))?.pod.facts.pod;
    onPoint(box === undefined ? "" : `${box.copy.model} on ${pod}: ${box.copy.state}, ${bytes(box.copy.sizeBytes)}`);
  }

  function move(key) {
    const at = Math.max(
      0,
      layout.findIndex(({ boxes }) => boxes.includes(chosen)),
    );
    const boxes = layout[at]?.boxes ?? [];
    const index = boxes.indexOf(chosen);
    if (key === "ArrowUp" || key === "ArrowDown") {
      point(boxes[Math.min(boxes.length - 1, Math.max(0, index + (key === "ArrowUp" ? 1 : -1)))] ?? boxes[0]);
    } else {
      const next = layout[Math.min(layout.length - 1, Math.max(0, at + (key === "ArrowRight" ? 1 : -1)))];
      point(next?.boxes[Math.min(Math.max(0, index), next.boxes.length - 1)]);
    }
  }

  canvas.addEventListener("mousemove", (event) => point(boxAt(event.offsetX, event.offsetY)));
  canvas.addEventListener("mouseleave", () => point(undefined));
  canvas.addEventListener("click", (event) => {
    const box = boxAt(event.offsetX, event.offsetY);
    if (box !== undefined) onOpen(box.copy.model);
  });
  canvas.addEventListener("keydown", (event) => {
    if (event.key.startsWith("Arrow")) {
      event.preventDefault();
      move(event.key);
    } else if (event.key === "Enter" && chosen !== undefined) {
      // Otherwise the same key would press the button that has the focus next.
      event.preventDefault();
      onOpen(chosen.copy.model);
    }
  });

  return {
    changed() {
      dirty = true;
    },
    refresh() {
      if (dirty) {
        const was = chosen?.copy;
        place();
        chosen = was === undefined ? undefined : layout.flatMap(({ boxes }) => boxes).find(({ copy }) => copy === was);
        dirty = false;
      }
      draw();
    },
  };
}

function tone(copy, nowMs) {
  if (copy.state !== "ready") return copy.state;
  const idleMs = nowMs - (copy.usedMs ?? Number.NEGATIVE_INFINITY);
  if (idleMs < hotMs) return "hot";
  return idleMs < lukewarmMs ? "warm" : "cool";
}

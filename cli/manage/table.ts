// Owns how values are shown to people: tables, ages, sizes, colours. Pure: whether there are colours is an argument.

export interface Column {
  readonly head: string;
  /** Numbers stand at the right. */
  readonly right?: boolean;
}

/** Without rows, the head alone. Long cells are cut so that the table stays within `width`. */
export function formatTable(columns: readonly Column[], rows: readonly (readonly string[])[], width = 200): string {
  const widths = columns.map(({ head }, at) => Math.max(head.length, ...rows.map((row) => visibleLength(row[at] ?? ""))));
  const total = widths.reduce((sum, one) => sum + one + 2, 0);
  const widest = widths.indexOf(Math.max(...widths));
  if (total > width && widest >= 0) widths[widest] = Math.max(12, (widths[widest] ?? 0) - (total - width));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, at) => {
        const room = widths[at] ?? 0;
        const shown = visibleLength(cell) > room ? `${stripColours(cell).slice(0, Math.max(1, room - 1))}…` : cell;
        const pad = " ".repeat(Math.max(0, room - visibleLength(shown)));
        return columns[at]?.right === true ? pad + shown : shown + pad;
      })
      .join("  ")
      .trimEnd();
  return [line(columns.map(({ head }) => head)), ...rows.map(line)].join("\n");
}

/** `12s`, `5m`, `3h`, `2d`. */
export function formatAge(ms: number | undefined): string {
  if (ms === undefined) return "";
  const seconds = Math.max(0, Math.round(ms / 1_000));
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 7_200) return `${Math.round(seconds / 60)}m`;
  return seconds < 172_800 ? `${Math.round(seconds / 3_600)}h` : `${Math.round(seconds / 86_400)}d`;
}

/** `512B`, `1.5Ki`, `28Mi`. */
export function formatBytes(bytes: number | undefined): string {
  if (bytes === undefined) return "";
  const units = ["B", "Ki", "Mi", "Gi", "Ti"];
  let value = bytes;
  let unit = 0;
  while (value >= 1_024 && unit < units.length - 1) {
    value /= 1_024;
    unit += 1;
  }
  return `${value < 10 && unit > 0 ? value.toFixed(1) : Math.round(value)}${units[unit] ?? ""}`;
}

const colours = { green: 32, yellow: 33, red: 31, blue: 34, dim: 2, bold: 1 } as const;

export type Paint = (colour: keyof typeof colours, text: string) => string;

export function createPaint(isColoured: boolean): Paint {
  return (colour, text) => (isColoured ? `\u001B[${colours[colour]}m${text}\u001B[0m` : text);
}

/** https://no-color.org */
export function wantsColours(env: Readonly<Record<string, string | undefined>>, isTerminal: boolean): boolean {
  if (env["NO_COLOR"] !== undefined && env["NO_COLOR"] !== "") return false;
  if (env["FORCE_COLOR"] !== undefined && env["FORCE_COLOR"] !== "" && env["FORCE_COLOR"] !== "0") return true;
  return isTerminal && env["TERM"] !== "dumb";
}

const stateColours: Readonly<Record<string, keyof typeof colours>> = {
  ready: "green",
  UpToDate: "green",
  loading: "blue",
  queued: "blue",
  InProgress: "blue",
  leaving: "yellow",
  draining: "yellow",
  failed: "red",
  BlockedByFailedLoad: "red",
  unreachable: "red",
  cold: "dim",
};

export function paintState(paint: Paint, state: string): string {
  const colour = stateColours[state];
  return colour === undefined ? state : paint(colour, state);
}

// oxlint-disable-next-line no-control-regex -- what this module itself adds
const colourCode = /\u001B\[\d+m/g;

function stripColours(text: string): string {
  return text.replaceAll(colourCode, "");
}

function visibleLength(text: string): number {
  return stripColours(text).length;
}

/** What comes from elsewhere must not move the cursor of a terminal. */
export function printable(text: string): string {
  return text.replaceAll(/\p{Cc}+/gu, " ");
}

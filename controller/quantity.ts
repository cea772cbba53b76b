// Owns amounts as Kubernetes writes them: 500m, 64Mi, 1G, 1e3.

const units = new Map([
  ["", 1],
  ["m", 1e-3],
  ["k", 1e3],
  ["M", 1e6],
  ["G", 1e9],
  ["T", 1e12],
  ["P", 1e15],
  ["Ki", 2 ** 10],
  ["Mi", 2 ** 20],
  ["Gi", 2 ** 30],
  ["Ti", 2 ** 40],
  ["Pi", 2 ** 50],
]);

/** Undefined when it is no amount. */
export function parseQuantity(value: unknown): number | undefined {
  if (typeof value === "number") return Number.isFinite(value) && value >= 0 ? value : undefined;
  if (typeof value !== "string" || value.length > 64) return undefined;
  const found = /^\+?(?<amount>\d+(?:\.\d*)?|\.\d+)(?:[eE](?<power>[+-]?\d{1,3})|(?<unit>m|k|[MGTP]|[KMGTP]i))?$/.exec(value);
  const unit = units.get(found?.groups?.["unit"] ?? "");
  if (found?.groups === undefined || unit === undefined) return undefined;
  const amount = Number(found.groups["amount"]) * 10 ** Number(found.groups["power"] ?? 0) * unit;
  return Number.isFinite(amount) ? amount : undefined;
}

// Owns which runtime a revision goes to, in KServe's order, with the reason for people. Pure.
//
// A named runtime: the namespace's own before the cluster's; it must serve the format, whether or not it may be chosen
// by itself. Otherwise of those that serve format, version and protocol: the namespace's own first, then the higher
// priority for the format, then the newest, then by name.
import type { Runtime, RuntimeFormat } from "../runtime/runtime.ts";
import type { SourceRevision } from "./source.ts";

export type Selection =
  | {
      readonly kind: "selected";
      readonly runtime: Runtime;
      /** Only pods that serve it may hold the revision; undefined when the runtime's word is enough. */
      readonly formatVersion: string | undefined;
      readonly why: string;
    }
  | {
      readonly kind: "none";
      readonly reason: "NoSupportingRuntime" | "RuntimeNotRecognized";
      readonly message: string;
      /** What each runtime lacks. */
      readonly why: string;
      /** A runtime for one model at a time would serve it: the predecessor's users see such a model wait, not fail. */
      readonly isPending: boolean;
    };

export type Wish = Pick<SourceRevision, "format" | "formatVersion" | "protocol" | "runtime">;

export function selectRuntime(wish: Wish, runtimes: Iterable<Runtime>): Selection {
  const all = [...runtimes];
  if (wish.runtime !== undefined) return selectNamed(wish, wish.runtime, all);
  // A runtime of the namespace hides one of the cluster with the same name.
  const own = new Set(all.filter(({ namespace }) => namespace !== undefined).map(({ name }) => name));
  const visible = all.filter(({ namespace, name }) => namespace !== undefined || !own.has(name));
  const judged = visible.map((runtime) => ({ runtime, ...judge(wish, runtime) }));
  const suitable = judged.filter(({ lacks }) => lacks === undefined).sort(byPreference);
  const [best] = suitable;
  if (best === undefined) {
    return {
      kind: "none",
      reason: "NoSupportingRuntime",
      message: "No ServingRuntime supports specified model type and/or protocol",
      why: visible.length === 0 ? "there is no runtime" : listed(judged.map(({ runtime, lacks }) => `${runtime.name} ${lacks}`)),
      isPending: visible.some((runtime) => isForOne(wish, runtime)),
    };
  }
  const others = suitable.length - 1;
  const where = best.runtime.namespace === undefined ? "the cluster's" : "this namespace's";
  return {
    kind: "selected",
    runtime: best.runtime,
    formatVersion: best.format?.version === undefined ? undefined : wish.formatVersion,
    why: `${where} runtime ${best.runtime.name} serves ${describe(wish)}${others === 0 ? "" : `; preferred to ${others} other${others === 1 ? "" : "s"}`}`,
  };
}

function selectNamed(wish: Wish, name: string, all: readonly Runtime[]): Selection {
  const named = all.filter((runtime) => runtime.name === name);
  const runtime = named.find(({ namespace }) => namespace !== undefined) ?? named[0];
  if (runtime === undefined) {
    return {
      kind: "none",
      reason: "RuntimeNotRecognized",
      message: "Specified runtime name not recognized",
      why: `there is no runtime named ${name}`,
      isPending: false,
    };
  }
  const lacks =
    unusable(runtime) ??
    (runtime.formats.some((format) => format.name === wish.format) ? undefined : `does not serve ${wish.format}`);
  if (lacks !== undefined) {
    return {
      kind: "none",
      reason: "NoSupportingRuntime",
      message: `Specified runtime ${name} ${lacks}`,
      why: `${name} ${lacks}`,
      isPending: isForOne(wish, runtime),
    };
  }
  return { kind: "selected", runtime, formatVersion: undefined, why: `the runtime ${name} is named by the spec` };
}

interface Judged {
  readonly runtime: Runtime;
  readonly format: RuntimeFormat | undefined;
  readonly lacks: string | undefined;
}

function judge(wish: Wish, runtime: Runtime): Omit<Judged, "runtime"> {
  const no = (lacks: string): Omit<Judged, "runtime"> => ({ format: undefined, lacks });
  const reason = unusable(runtime);
  if (reason !== undefined) return no(reason);
  const byName = runtime.formats.filter(({ name }) => name === wish.format);
  if (byName.length === 0) return no(`does not serve ${wish.format}`);
  const byVersion = byName.filter(
    ({ version }) => wish.formatVersion === undefined || version === undefined || version === wish.formatVersion,
  );
  if (byVersion.length === 0) return no(`does not serve version ${wish.formatVersion} of ${wish.format}`);
  const chosen = byVersion.filter(({ autoSelect }) => autoSelect).sort((one, other) => other.priority - one.priority);
  if (chosen.length === 0) return no(`serves ${wish.format} only for models that name it`);
  if (wish.protocol !== undefined && runtime.protocols.length > 0 && !speaks(runtime, wish.protocol))
    return no(`does not speak ${wish.protocol}`);
  return { format: chosen[0], lacks: undefined };
}

function isForOne({ format }: Wish, { multiModel, disabled, formats }: Runtime): boolean {
  return !multiModel && !disabled && formats.some(({ name }) => name === format);
}

/** What speaks V2 over gRPC is called over REST as well. */
function speaks({ protocols }: Runtime, protocol: string): boolean {
  return protocols.includes(protocol) || (protocol === "v2" && protocols.includes("grpc-v2"));
}

function unusable(runtime: Runtime): string | undefined {
  if (runtime.disabled) return "is disabled";
  if (!runtime.multiModel) return "is not for many models (multiModel is not true)";
  const [fault] = runtime.faults;
  return fault === undefined ? undefined : `cannot run: ${fault}`;
}

function byPreference(one: Judged, other: Judged): number {
  const ownFirst = Number(other.runtime.namespace !== undefined) - Number(one.runtime.namespace !== undefined);
  if (ownFirst !== 0) return ownFirst;
  const priority = (other.format?.priority ?? 0) - (one.format?.priority ?? 0);
  if (priority !== 0) return priority;
  if (one.runtime.createdAt !== other.runtime.createdAt) return one.runtime.createdAt < other.runtime.createdAt ? 1 : -1;
  return one.runtime.name < other.runtime.name ? -1 : 1;
}

function describe({ format, formatVersion, protocol }: Wish): string {
  return `${format}${formatVersion === undefined ? "" : ` ${formatVersion}`}${protocol === undefined ? "" : ` over ${protocol}`}`;
}

const maxListed = 10;

function listed(parts: readonly string[]): string {
  const rest = parts.length - maxListed;
  return rest > 0 ? `${parts.slice(0, maxListed).join("; ")}; and ${rest} more` : parts.join("; ");
}

// A timed pod in a process of its own, as an adapter is: it shares its turns with nobody. Ends with the process that
// forked it.
import { openRegistry } from "#platform/registry/open.ts";
import { planSchema, type TimedPodReply } from "./plan.ts";
import { openTimedPod } from "./pod.ts";

const { registryFile, address, ...options } = planSchema.parse(JSON.parse(process.argv[2] ?? ""));
const say = (reply: TimedPodReply): void => void process.send?.(reply);

process.once("disconnect", () => process.exit(0));
const registry = await openRegistry({ kind: "embedded", file: registryFile });
const pod = await openTimedPod(options, registry, address);
process.on("message", () => say({ kind: "loads", loads: pod.loads }));
say({ kind: "ready" });

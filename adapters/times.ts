// Owns what gateways are told of where the time of a load went: by the clock of this adapter, since a gateway that is busy hears
// late that it has begun, and that it has ended.
import { type AgentWatch, type LoadTimes, noWatch } from "./agent/watch.ts";

/** `tell` is called once for each load, before its copy is said to be ready or failed. In milliseconds. */
export function createTimesWatch(nowMs: () => number, tell: (times: LoadTimes) => void): AgentWatch {
  return {
    ...noWatch,
    loadStarts({ model, revision, queuedMs }) {
      let lastMs = nowMs();
      const times = { model, revision, queue: queuedMs, pull: 0, turn: 0, server: 0, measure: 0 };
      return {
        step(name) {
          const startMs = lastMs;
          return () => {
            lastMs = nowMs();
            times[name] += lastMs - startMs;
          };
        },
        end: () => tell(times),
      };
    },
  };
}

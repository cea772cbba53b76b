// What of a model's status is worth an event.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { findNews } from "./news.ts";
import type { Owner } from "./source.ts";
import type { ModelView } from "./view.ts";

const loaded: ModelView = {
  transition: "UpToDate",
  activeState: "Loaded",
  targetState: "",
  available: true,
  active: "m__isvc-1",
  target: undefined,
  totalCopies: 1,
  failedCopies: 0,
  failure: undefined,
  selection: { ok: true, reason: "RuntimeSelected", message: "runtime onnx serves onnx" },
};
const failure = {
  location: undefined,
  reason: "ModelLoadFailed",
  message: "no artefact",
  revision: undefined,
  time: "2026-01-01T00:00:00Z",
} as const;
const chosen = { type: "RuntimeSelected", status: "True", message: "runtime onnx serves onnx" };

/** As each kind's status says it. */
function said(owner: Owner, activeState: string, transition = "UpToDate"): Readonly<Record<string, unknown>> {
  const conditions = [chosen];
  if (owner === "isvc")
    return { conditions, modelStatus: { states: { activeModelState: activeState }, transitionStatus: transition } };
  if (owner === "ksp") return { conditions, activeModelState: activeState, transitionStatus: transition };
  return { conditions, activeState, transition };
}

describe("news of a model", () => {
  for (const owner of ["isvc", "ksp", "model"] as const) {
    const reasons = (status: Readonly<Record<string, unknown>>, view: ModelView): readonly string[] =>
      findNews({ owner, status }, view).map(({ type, reason, note }) => `${type} ${reason}: ${note}`);
    const isLoaded = "Normal Loaded: revision m__isvc-1 is loaded";

    test(`${owner}: a choice of runtime and a first load are told of once`, () => {
      assert.deepEqual(reasons({}, loaded), ["Normal RuntimeSelected: runtime onnx serves onnx", isLoaded]);
      assert.deepEqual(reasons(said(owner, "Loading"), loaded), [isLoaded]);
      assert.deepEqual(reasons(said(owner, "FailedToLoad"), loaded), [isLoaded]);
      assert.deepEqual(reasons(said(owner, "Loaded"), loaded), []);
    });

    test(`${owner}: copies that come and go by use are no news`, () => {
      assert.deepEqual(reasons(said(owner, "Standby"), loaded), []);
      assert.deepEqual(reasons(said(owner, "Loaded"), { ...loaded, activeState: "Standby" }), []);
      const waiting = { ...loaded, activeState: "Pending", failure: { ...failure, reason: "RuntimeUnhealthy" } } as const;
      assert.deepEqual(reasons(said(owner, "Pending"), waiting), []);
    });

    test(`${owner}: a successor that came to serve, one that is blocked, and a failure are`, () => {
      assert.deepEqual(reasons(said(owner, "Loaded", "InProgress"), loaded), [isLoaded]);
      assert.deepEqual(reasons(said(owner, "Loaded", "BlockedByFailedLoad"), loaded), [isLoaded]);
      assert.deepEqual(reasons(said(owner, "Loaded", "InProgress"), { ...loaded, transition: "BlockedByFailedLoad", failure }), [
        "Warning BlockedByFailedLoad: ModelLoadFailed: no artefact; revision m__isvc-1 serves on",
      ]);
      assert.deepEqual(reasons(said(owner, "Loading"), { ...loaded, activeState: "FailedToLoad", failure }), [
        "Warning ModelLoadFailed: no artefact",
      ]);
    });
  }
});

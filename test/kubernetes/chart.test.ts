// The chart as text: what it renders to for each file of values (goldens beside them: UPDATE_GOLDENS=1 writes them anew), what
// its schema refuses, and that a real API server takes every object of it.
import assert from "node:assert/strict";
import { globSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { parseAllDocuments } from "yaml";
import { openControlPlane } from "./harness/controlplane.ts";
import { applyCrds, chartFolder } from "./harness/crds.ts";
import { runCommand } from "./harness/kubectl.ts";
import { findHelm, whyNoControlPlane } from "./harness/programs.ts";

const skip = whyNoControlPlane() ?? false;
const cases = join(import.meta.dirname, "chart");
const update = process.env["UPDATE_GOLDENS"] !== undefined;

async function render(
  ...args: readonly string[]
): Promise<{ readonly code: number | null; readonly text: string; readonly error: string }> {
  const { code, stdout, stderr } = await runCommand(await findHelm(), [
    "template",
    "trial",
    chartFolder,
    "--namespace",
    "models",
    ...args,
  ]);
  return { code, text: stdout, error: stderr };
}

describe("the chart", { skip }, () => {
  for (const values of globSync("*.values.yaml", { cwd: cases }).sort()) {
    test(`renders ${values}`, async () => {
      const { code, text, error } = await render("--values", join(cases, values));
      assert.equal(code, 0, error);
      const golden = join(cases, values.replace(".values.yaml", ".golden.yaml"));
      if (update) writeFileSync(golden, text);
      assert.equal(text, readFileSync(golden, "utf8"));
    });
  }

  test("refuses values that cannot work, by name", async () => {
    const refusals: readonly (readonly [string, RegExp])[] = [
      ["gateway.replicas=0", /gateway.replicas|\/gateway\/replicas/],
      ["gatway.replicas=2", /gatway/],
      ["service.name=Not_A_Name", /service.name|\/service\/name/],
      ["etcd.enabled=false", /etcd.endpoints|\/etcd\/endpoints|then/],
      ["tls.clientAuth=perhaps", /clientAuth/],
      ["sleep.afterSeconds=soon", /afterSeconds/],
    ];
    for (const [setting, says] of refusals) {
      const { code, error } = await render("--set", setting);
      assert.notEqual(code, 0, setting);
      assert.match(error, says);
    }
  });

  test("has no pod that could do more than it must", async () => {
    const { text } = await render();
    const objects = parseAllDocuments(text).flatMap((document) => (document.toJS() ?? []) as readonly PodOwner[]);
    const owners = objects.filter(({ kind }) => kind === "Deployment" || kind === "StatefulSet");
    assert.equal(owners.length, 3);
    for (const { metadata, spec } of owners) {
      const pod = spec.template.spec;
      assert.equal(pod.securityContext.runAsNonRoot, true, metadata.name);
      assert.equal(pod.securityContext.seccompProfile.type, "RuntimeDefault", metadata.name);
      for (const container of [...pod.containers, ...(pod.initContainers ?? [])]) {
        assert.deepEqual(container.securityContext.capabilities, { drop: ["ALL"] }, container.name);
        assert.equal(container.securityContext.allowPrivilegeEscalation, false, container.name);
        assert.equal(container.securityContext.readOnlyRootFilesystem, true, container.name);
        assert.notEqual(container.resources.limits.memory, undefined, container.name);
      }
    }
  });

  test("is taken whole by a real API server, in a namespace of the strictest kind", async () => {
    await using plane = await openControlPlane();
    await applyCrds(plane.kubectl);
    await plane.kubectl("create", "namespace", "models");
    await plane.kubectl("label", "namespace", "models", "pod-security.kubernetes.io/warn=restricted");
    for (const values of ["default.values.yaml", "production.values.yaml"]) {
      const { text } = await render("--values", join(cases, values), "--set", "metrics.serviceMonitor.enabled=false");
      const { code, stderr } = await plane.kubectl.run(
        ["apply", "--server-side", "--dry-run=server", "--namespace", "models", "--filename", "-"],
        text,
      );
      assert.equal(code, 0, stderr);
      assert.doesNotMatch(stderr, /would violate|unknown field/);
    }
  });
});

interface PodOwner {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly spec: {
    readonly template: {
      readonly spec: {
        readonly securityContext: { readonly runAsNonRoot: boolean; readonly seccompProfile: { readonly type: string } };
        readonly containers: readonly Container[];
        readonly initContainers?: readonly Container[];
      };
    };
  };
}

interface Container {
  readonly name: string;
  readonly securityContext: {
    readonly capabilities: unknown;
    readonly allowPrivilegeEscalation: boolean;
    readonly readOnlyRootFilesystem: boolean;
  };
  readonly resources: { readonly limits: { readonly memory?: string } };
}

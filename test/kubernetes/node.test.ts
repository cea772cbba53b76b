// The node that the other tests stand on: real pods from images made here, reached through Services, and nothing left after.
import assert from "node:assert/strict";
import { existsSync, globSync } from "node:fs";
import { test } from "node:test";
import { request } from "undici";
import { waitUntil } from "../harness/wait.ts";
import { openCluster } from "./harness/cluster.ts";
import { buildEnvoyImage, buildEtcdImage, buildWarmpathImage, envoyImage, etcdImage, warmpathImage } from "./harness/images.ts";
import { whyNoCluster } from "./harness/programs.ts";

const skip = whyNoCluster() ?? false;

test("a node runs our image and Envoy's, and is gone with all that it made", { skip }, async () => {
  let folder: string;
  {
    await using cluster = await openCluster([await buildWarmpathImage(), await buildEnvoyImage(), await buildEtcdImage()]);
    ({ folder } = cluster);
    const script = "require('http').createServer((_, r) => r.end('here')).listen(8000)";
    await cluster.kubectl.apply(
      JSON.stringify({
        apiVersion: "v1",
        kind: "Pod",
        metadata: { name: "web", labels: { app: "web" } },
        spec: {
          initContainers: [envoyImage, etcdImage].map((image, at) => ({
            name: `init-${at}`,
            image,
            imagePullPolicy: "Never",
            args: ["--version"],
          })),
          containers: [{ name: "web", image: warmpathImage, imagePullPolicy: "Never", command: ["node", "-e", script] }],
          restartPolicy: "Never",
        },
      }),
    );
    await cluster.kubectl.apply(
      JSON.stringify({
        apiVersion: "v1",
        kind: "Service",
        metadata: { name: "web" },
        spec: { selector: { app: "web" }, ports: [{ port: 80, targetPort: 8000 }] },
      }),
    );
    const { host, port } = await cluster.forwardService("web", 80);
    const text = await waitUntil(
      "the service answers",
      () =>
        request(`http://${host}:${port}/`).then(
          ({ body }) => body.text(),
          () => "",
        ),
      (answer) => answer !== "",
      60_000,
    );
    assert.equal(text, "here");
    assert.notEqual(globSync(`/sys/fs/cgroup/*/warmpath-${process.pid}-*`).length, 0);
  }
  assert.equal(existsSync(folder), false);
  assert.deepEqual(globSync(`/sys/fs/cgroup/*/warmpath-${process.pid}-*`), []);
});

// Owns what answers autoscalers' questions in a cluster (external.metrics.k8s.io), in the place of prometheus-adapter or KEDA: a pod
// that asks a gateway for its metrics at each question, as Prometheus scrapes it, and sums a metric over its labels.
import { createAuthority } from "#platform/tls/authority.ts";
import { warmpathImage } from "./images.ts";
import type { Installation } from "./installation.ts";
import { restrictedPod } from "./reach.ts";

const name = "external-metrics";
const port = 8443;
const group = "external.metrics.k8s.io";
const version = "v1beta1";

const script = `
const https = require("node:https");
const { readFileSync } = require("node:fs");
const read = (file) => readFileSync("/config/" + file, "utf8");
const scrape = () => new Promise((resolve, reject) => {
  const headers = { authorization: "Bearer " + read("token") };
  const options = { ca: read("ca.crt"), servername: "warmpath-management", headers };
  https.get("https://warmpath-management:8080/metrics", options, (answer) => {
    let text = "";
    answer.on("data", (chunk) => (text += chunk)).on("end", () => resolve(text));
  }).on("error", reject);
});
const list = (kind, more) => ({ kind, apiVersion: "${group}/${version}", ...more });
https.createServer({ cert: read("tls.crt"), key: read("tls.key") }, async (request, response) => {
  response.setHeader("content-type", "application/json");
  const [, metric] = /^\\/apis\\/${group}\\/${version}\\/namespaces\\/[^/]+\\/([^/?]+)/.exec(request.url) ?? [];
  if (metric === undefined) {
    const found = request.url.startsWith("/apis/${group}/${version}");
    response.statusCode = found ? 200 : 404;
    const said = { kind: "APIResourceList", apiVersion: "v1", groupVersion: "${group}/${version}", resources: [] };
    return response.end(JSON.stringify(found ? said : {}));
  }
  try {
    const values = [...(await scrape()).matchAll(new RegExp("^" + metric + "(?:\\\\{[^}]*\\\\})? (\\\\S+)", "gm"))];
    if (values.length === 0) throw new Error("there is no metric " + metric);
    const value = String(values.reduce((sum, [, each]) => sum + Number(each), 0));
    const item = { metricName: metric, metricLabels: {}, timestamp: new Date().toISOString(), value };
    response.end(JSON.stringify(list("ExternalMetricValueList", { metadata: {}, items: [item] })));
  } catch (error) {
    response.statusCode = 500;
    response.end(JSON.stringify({ kind: "Status", apiVersion: "v1", status: "Failure", code: 500, message: String(error) }));
  }
}).listen(${port});
`;

/** Serves until it is removed; it may reach the management API, as the policies that people make for their own pods allow it. */
export async function serveExternalMetrics(it: Installation): Promise<AsyncDisposable> {
  const lifeMs = 86_400_000;
  const own = await (await createAuthority(name, lifeMs)).issue([name], lifeMs);
  const { "scrape-token": token = "" } = await it.secret("warmpath-management-tokens");
  const { "ca.crt": ca = "" } = await it.secret("warmpath-management-tls");
  const stringData = { "tls.crt": own.cert, "tls.key": own.key, "ca.crt": ca, token };
  const labels = { app: name };
  const objects = [
    { apiVersion: "v1", kind: "Secret", metadata: { name }, stringData },
    restrictedPod(
      { name, labels },
      {
        name: "server",
        image: warmpathImage,
        command: ["node", "-e", script],
        readinessProbe: { tcpSocket: { port }, periodSeconds: 1 },
        volumeMounts: [{ name: "config", mountPath: "/config", readOnly: true }],
      },
      { volumes: [{ name: "config", secret: { secretName: name } }] },
    ),
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name },
      spec: { selector: labels, ports: [{ port: 443, targetPort: port }] },
    },
    {
      apiVersion: "networking.k8s.io/v1",
      kind: "NetworkPolicy",
      metadata: { name },
      spec: {
        podSelector: { matchLabels: { "app.kubernetes.io/component": "gateway" } },
        ingress: [{ from: [{ podSelector: { matchLabels: labels } }], ports: [{ port: "management" }] }],
      },
    },
  ];
  const service = {
    apiVersion: "apiregistration.k8s.io/v1",
    kind: "APIService",
    metadata: { name: `${version}.${group}` },
    spec: {
      group,
      version,
      service: { name, namespace: it.namespace },
      insecureSkipTLSVerify: true,
      groupPriorityMinimum: 100,
      versionPriority: 100,
    },
  };
  const items = [...objects, service];
  await it.apply(JSON.stringify({ apiVersion: "v1", kind: "List", items }));
  await it.cluster.kubectl("wait", "--for=condition=Available", `apiservice/${service.metadata.name}`, "--timeout=240s");
  return {
    async [Symbol.asyncDispose]() {
      await it.cluster.kubectl("delete", "apiservice", service.metadata.name);
      for (const { kind } of objects) await it.remove(kind.toLowerCase(), name);
    },
  };
}

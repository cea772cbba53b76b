// Owns what becomes of connections from one pod to others, as the network of the cluster has it.
import type { Installation } from "./installation.ts";

export interface Place {
  readonly address: string;
  readonly port: number;
}

const script = `
const { connect } = require("node:net");
const targets = JSON.parse(process.argv[1]);
const said = targets.map(({ address, port }) => new Promise((resolve) => {
  const socket = connect({ host: address, port, timeout: 10_000 });
  const end = (word) => { socket.destroy(); resolve(word); };
  socket.on("connect", () => end("open")).on("timeout", () => end("closed"));
  socket.on("error", ({ code }) => end(code === "ECONNREFUSED" ? "closed" : code));
}));
Promise.all(said).then((words) => console.log(JSON.stringify(words)));
`;

/** "open" or "closed" for each, in order, from a container that has Node. */
export async function tryFrom(
  { cluster }: Installation,
  from: { readonly namespace: string; readonly pod: string; readonly container: string },
  targets: readonly Place[],
): Promise<readonly string[]> {
  const { namespace, pod, container } = from;
  const target = ["exec", pod, "--namespace", namespace, "--container", container];
  const said = await cluster.kubectl(...target, "--", "node", "-e", script, JSON.stringify(targets));
  return JSON.parse(said) as readonly string[];
}

export interface RestrictedPod {
  readonly apiVersion: "v1";
  readonly kind: "Pod";
  readonly metadata: object;
  readonly spec: object;
}

/** A pod of one container, as the Pod Security Standard "restricted" wants it; `more` of its specification. */
export function restrictedPod(metadata: object, container: object, more: object = {}): RestrictedPod {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata,
    spec: {
      terminationGracePeriodSeconds: 0,
      securityContext: { runAsNonRoot: true, runAsUser: 1000, seccompProfile: { type: "RuntimeDefault" } },
      containers: [
        {
          imagePullPolicy: "Never",
          securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } },
          ...container,
        },
      ],
      ...more,
    },
  };
}

/** A pod that does nothing. */
export function idlePod(name: string, image: string, labels: Readonly<Record<string, string>> = {}): string {
  const command = ["node", "-e", "setInterval(() => undefined, 1_000_000)"];
  return JSON.stringify(restrictedPod({ name, labels }, { name: "idle", image, command }));
}

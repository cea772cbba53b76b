// Owns kubectl as tests call it. What is only looked at, again and again, is read without it: to start a program for each look
// would take the machine's time from what is looked at.
import { spawn } from "node:child_process";
import { createKubeClient, type KubeClient } from "#controller/engine/client.ts";
import type { ResourceType } from "#controller/engine/objects.ts";
import {
  accessPolicies,
  autoscalers,
  deployments,
  inferenceServices,
  models,
  networkPolicies,
  podDisruptionBudgets,
  predictors,
  services,
  servingRuntimes,
} from "#controller/kinds.ts";

export interface CommandResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Kubectl {
  /** Throws when it fails. */
  (...args: readonly string[]): Promise<string>;
  /** Whatever its exit code. */
  run(args: readonly string[], input?: string): Promise<CommandResult>;
  /** `kubectl apply --filename -`, by server-side apply. Throws when it fails. */
  apply(yaml: string, namespace?: string): Promise<string>;
  /** An object as JSON; undefined when it is not there. */
  get(kind: string, name: string, namespace?: string): Promise<KubeValue>;
}

/** Anything read back from the API server, as tests look into it. */
// oxlint-disable-next-line typescript/no-explicit-any -- a test names the fields that it expects; a wrong one is undefined and fails it
export type KubeValue = any;

const known: Readonly<Record<string, ResourceType>> = {
  isvc: inferenceServices,
  inferenceservice: inferenceServices,
  predictor: predictors,
  model: models,
  accesspolicy: accessPolicies,
  servingruntime: servingRuntimes,
  deployment: deployments,
  service: services,
  networkpolicy: networkPolicies,
  poddisruptionbudget: podDisruptionBudgets,
  hpa: autoscalers,
};

export function createKubectl(binary: string, kubeconfig: string): Kubectl {
  const run = (args: readonly string[], input?: string): Promise<CommandResult> =>
    runCommand(binary, ["--kubeconfig", kubeconfig, ...args], input);
  let client: KubeClient | undefined;
  const orThrow = async (args: readonly string[], input?: string): Promise<string> => {
    const { code, stdout, stderr } = await run(args, input);
    if (code !== 0) throw new Error(`kubectl ${args.join(" ")} ended with ${code}: ${stderr}`);
    return stdout;
  };
  return Object.assign((...args: readonly string[]) => orThrow(args), {
    run,
    apply: (yaml: string, namespace = "default") =>
      orThrow(["apply", "--server-side", "--namespace", namespace, "--filename", "-"], yaml),
    async get(kind: string, name: string, namespace = "default") {
      const type = known[kind];
      // Its connections are kept for as long as they are in use, and hold no process up.
      if (type !== undefined) return (await (client ??= createKubeClient(kubeconfig)).get(type, namespace, name))?.body;
      const { code, stdout, stderr } = await run(["get", kind, name, "--namespace", namespace, "--output", "json"]);
      if (code === 0) return JSON.parse(stdout);
      if (stderr.includes("NotFound")) return undefined;
      throw new Error(`kubectl get ${kind} ${name}: ${stderr}`);
    },
  });
}

/** Runs a program to its end. */
export async function runCommand(
  command: string,
  args: readonly string[],
  input?: string,
  env: Readonly<Record<string, string>> = {},
): Promise<CommandResult> {
  const child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"], env: { ...process.env, ...env } });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  child.stdin.on("error", () => undefined);
  child.stdin.end(input ?? "");
  const { promise, resolve, reject } = Promise.withResolvers<CommandResult>();
  child.on("error", reject);
  child.on("close", (code) => resolve({ code, stdout, stderr }));
  return await promise;
}

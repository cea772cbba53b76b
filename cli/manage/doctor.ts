// Owns `warmpath doctor`: looks at what a Warmpath on this machine or behind --url needs, and says what to do about each
// thing that is wrong. Every check ends in time, and none changes anything.
import { execFile } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { connect } from "node:net";
import { promisify } from "node:util";
import type { Command } from "commander";
import { envoyBinary, envoyIsThere } from "../setup/envoy.mjs";
import { findTrouble } from "../up/ports.ts";
import { ownVersion } from "../version.ts";
import {
  addGatewayOptions,
  listOf,
  numberOf,
  type Options,
  openSession,
  recordOf,
  type Session,
  type Terminal,
  textOf,
} from "./context.ts";
import { CommandError } from "./failure.ts";
import { formatTable, printable } from "./table.ts";
import { withProgress } from "./wait.ts";

type Verdict = "ok" | "warn" | "wrong";

interface Finding {
  readonly check: string;
  readonly verdict: Verdict;
  readonly says: string;
  /** What to do. */
  readonly advice?: string;
}

const execute = promisify(execFile);
const checkMs = 3_000;
const usualPorts = "8008,8033,8080";
const leastNode = 20;
const testedEnvoy = "1.40";
const dayMs = 86_400_000;

export function addDoctor(program: Command, terminal: Terminal): void {
  addGatewayOptions(program.command("doctor"))
    .description(
      "look for what is wrong with ports, Envoy, registry, pods, versions, clocks and certificates, and say what to do",
    )
    .option("--ports <PORTS>", "ports that `warmpath up` wants, when no gateway answers (default: 8008,8033,8080)")
    .option("--cert <FILE...>", "PEM certificates to look at as well")
    .option("--etcd <ENDPOINTS>", "host:port of etcd servers, separated by commas")
    .action(async (options: Options) => {
      // What is wrong with the command line is told whatever is found.
      const asked = { ports: parsePorts(textOf(options["ports"]) ?? usualPorts), etcd: parseEndpoints(textOf(options["etcd"])) };
      const session = openSession(terminal, { timeout: "3", ...options });
      const findings = await withProgress(terminal, look(session, options, asked), async () => ({ says: "looking" }));
      const worst = findings.some(({ verdict }) => verdict === "wrong");
      session.show({ ok: !worst, findings }, () => formatFindings(findings, session));
      if (worst) terminal.setExitCode(1);
    });
}

interface Asked {
  readonly ports: readonly number[];
  readonly etcd: readonly Endpoint[];
}

interface Endpoint {
  readonly text: string;
  readonly host: string;
  readonly port: number;
}

function parsePorts(text: string): readonly number[] {
  const ports = text.split(",").map(Number);
  if (!ports.every((port) => Number.isInteger(port) && port > 0 && port < 65_536))
    throw new CommandError("usage", `--ports must be ports separated by commas, not '${text}'`);
  return ports;
}

function parseEndpoints(text: string | undefined): readonly Endpoint[] {
  return (text?.split(",") ?? []).map((endpoint) => {
    const found = /^(?:https?:\/\/)?\[?([^\]]+?)\]?:(\d{1,5})\/?$/.exec(endpoint.trim());
    const [, host = "", port] = found ?? [];
    if (found === null || Number(port) > 65_535) throw new CommandError("usage", `--etcd must be host:port, not '${endpoint}'`);
    return { text: endpoint, host, port: Number(port) };
  });
}

async function look(session: Session, options: Options, asked: Asked): Promise<readonly Finding[]> {
  return [
    checkNode(),
    await checkEnvoy(session.terminal.env["WARMPATH_ENVOY"]),
    ...(await checkGateway(session, options, asked.ports)),
    ...(await checkEtcd(asked.etcd)),
    ...checkCertificates([options["cert"] ?? [], options["caFile"] ?? []].flat().map(String)),
  ];
}

function formatFindings(findings: readonly Finding[], { paint, terminal }: Session): string {
  const colours = { ok: "green", warn: "yellow", wrong: "red" } as const;
  const rows = findings.map(({ check, verdict, says, advice }) => [
    paint(colours[verdict], verdict),
    check,
    printable(advice === undefined ? says : `${says}: ${advice}`),
  ]);
  return formatTable([{ head: "" }, { head: "CHECK" }, { head: "FOUND" }], rows, Math.max(terminal.width, 160));
}

function checkNode(): Finding {
  const major = Number(process.versions.node.split(".")[0]);
  return major >= leastNode
    ? { check: "node", verdict: "ok", says: `Node ${process.versions.node}` }
    : {
        check: "node",
        verdict: "wrong",
        says: `Node ${process.versions.node} is too old`,
        advice: `install Node ${leastNode} or newer`,
      };
}

/** `named`: by WARMPATH_ENVOY; else the one that set-up has brought is looked at. */
async function checkEnvoy(named: string | undefined): Promise<Finding> {
  const check = "envoy";
  if (named === undefined && !envoyIsThere())
    return { check, verdict: "ok", says: "none is here; `warmpath up` brings the one that is tested" };
  const binary = named ?? envoyBinary();
  if (!existsSync(binary)) {
    return {
      check,
      verdict: "wrong",
      says: `WARMPATH_ENVOY names ${binary}, which is not there`,
      advice: "unset it, and set-up brings Envoy",
    };
  }
  try {
    const { stdout } = await execute(binary, ["--version"], { timeout: checkMs });
    const version = /version: [0-9a-f]+\/([^/]+)/.exec(stdout)?.[1] ?? "unknown";
    return version.startsWith(`${testedEnvoy}.`)
      ? { check, verdict: "ok", says: `Envoy ${version}` }
      : {
          check,
          verdict: "warn",
          says: `Envoy ${version}, where ${testedEnvoy} is what is tested`,
          advice: "unset WARMPATH_ENVOY, and set-up brings that one",
        };
  } catch (error) {
    return {
      check,
      verdict: "wrong",
      says: `${binary} does not run (${reasonOf(error)})`,
      advice: "is it built for this machine?",
    };
  }
}

async function checkGateway(session: Session, options: Options, ports: readonly number[]): Promise<Finding[]> {
  const check = "gateway";
  const startedMs = Date.now();
  try {
    const ready = await session.client.tell("GET", "/readyz");
    const { body: stats } = await session.client.ask("GET", "/api/v1/stats");
    const { body: pods } = await session.client.ask("GET", "/api/v1/pods");
    const isReady = ready.status === 200;
    return [
      isReady
        ? {
            check,
            verdict: "ok",
            says: `${session.client.url} serves ${numberOf(stats["models"]) ?? 0} models, ${numberOf(stats["warm"]) ?? 0} of them warm`,
          }
        : {
            check,
            verdict: "wrong",
            says: "the gateway is up, but its Envoy is not connected",
            advice: "look at Envoy's log: does it reach the gateway's socket?",
          },
      await checkVersion(session),
      ...checkPods(listOf(pods["pods"])),
      await checkRegistry(session),
      await checkClock(session, startedMs),
    ];
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    const isAsked = options["url"] !== undefined || session.terminal.env["WARMPATH_URL"] !== undefined;
    return [{ check, verdict: isAsked ? "wrong" : "warn", says: error.message }, ...(await checkPorts(ports))];
  }
}

function checkPods(pods: readonly Readonly<Record<string, unknown>>[]): Finding[] {
  const check = "pods";
  const away = pods.filter(({ reachable }) => reachable !== true).map(({ podId }) => String(podId));
  if (pods.length === 0)
    return [
      { check, verdict: "wrong", says: "no pod is linked", advice: "start adapters with the same registry as the gateway" },
    ];
  return away.length === 0
    ? [{ check, verdict: "ok", says: `${pods.length} linked` }]
    : [
        {
          check,
          verdict: "wrong",
          says: `${away.join(", ")} cannot be reached`,
          advice: "is the adapter up, and its Link address open to the gateway?",
        },
      ];
}

/** Gateway and command line may differ for a while; what one says the other may not know. */
async function checkVersion(session: Session): Promise<Finding> {
  const check = "version";
  const { body } = await session.client.ask("GET", "/api/v1/openapi.json");
  const gateway = textOf(recordOf(body["info"])["version"]) ?? "unknown";
  const own = ownVersion();
  return gateway === own
    ? { check, verdict: "ok", says: `gateway and command line are ${own}` }
    : { check, verdict: "warn", says: `the gateway is ${gateway}, this command line ${own}`, advice: "bring both to the same" };
}

async function checkRegistry(session: Session): Promise<Finding> {
  const check = "registry";
  const { body } = await session.client.ask("GET", "/api/v1/registry");
  const missing = numberOf(body["missing"]) ?? 0;
  if (missing > 0) {
    return {
      check,
      verdict: "wrong",
      says: `it came back without ${missing} models`,
      advice: "POST /api/v1/registry/restore writes them again",
    };
  }
  const { body: page } = await session.client.ask("GET", "/api/v1/models?limit=1");
  return page["revision"] === undefined
    ? {
        check,
        verdict: "wrong",
        says: "it does not answer",
        advice: "hits and loads go on, but nothing can be registered: look at the registry",
      }
    : { check, verdict: "ok", says: "it answers" };
}

/** From the Date of an answer: whole seconds, so only large differences are told. */
async function checkClock(session: Session, startedMs: number): Promise<Finding> {
  const check = "clock";
  const date = await session.client.date();
  if (date === undefined) return { check, verdict: "ok", says: "the gateway tells no time" };
  const offMs = date < startedMs - 1_000 ? startedMs - 1_000 - date : Math.max(0, date - Date.now());
  return offMs < 30_000
    ? { check, verdict: "ok", says: "agrees with the gateway's" }
    : {
        check,
        verdict: "warn",
        says: `${Math.round(offMs / 1_000)} s off the gateway's`,
        advice: "synchronise the clocks: tokens and certificates depend on them",
      };
}

async function checkPorts(ports: readonly number[]): Promise<Finding[]> {
  return await Promise.all(
    ports.map(async (port): Promise<Finding> => {
      const check = `port ${port}`;
      const trouble = await findTrouble("127.0.0.1", port);
      return trouble === undefined
        ? { check, verdict: "ok", says: "free" }
        : { check, verdict: "wrong", says: trouble.says, advice: trouble.advice };
    }),
  );
}

async function checkEtcd(endpoints: readonly Endpoint[]): Promise<Finding[]> {
  return await Promise.all(
    endpoints.map(async ({ text, host, port }): Promise<Finding> => {
      const check = `etcd ${text}`;
      const reason = await connectTo(host, port);
      return reason === undefined
        ? { check, verdict: "ok", says: "takes connections" }
        : { check, verdict: "wrong", says: reason, advice: "is etcd up, and open to this machine?" };
    }),
  );
}

async function connectTo(host: string, port: number): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const socket = connect({ host, port, timeout: checkMs });
  socket.once("connect", () => resolve(undefined));
  socket.once("timeout", () => resolve(`no answer within ${checkMs / 1_000} s`));
  socket.once("error", (error) => resolve(reasonOf(error)));
  const reason = await promise;
  socket.destroy();
  return reason;
}

function checkCertificates(files: readonly string[]): Finding[] {
  return files.map((file): Finding => {
    const check = `certificate ${file}`;
    try {
      const certificate = new X509Certificate(readFileSync(file));
      const leftMs = certificate.validToDate.getTime() - Date.now();
      const until = certificate.validToDate.toISOString();
      if (certificate.validFromDate.getTime() > Date.now())
        return {
          check,
          verdict: "wrong",
          says: `valid only from ${certificate.validFromDate.toISOString()}`,
          advice: "are the clocks right?",
        };
      if (leftMs < 0)
        return { check, verdict: "wrong", says: `expired ${until}`, advice: "renew it: it is read again without a restart" };
      return leftMs < 14 * dayMs
        ? { check, verdict: "warn", says: `expires ${until}`, advice: "renew it: it is read again without a restart" }
        : { check, verdict: "ok", says: `valid until ${until}` };
    } catch (error) {
      return { check, verdict: "wrong", says: reasonOf(error), advice: "name a PEM certificate that can be read" };
    }
  });
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return "code" in error && typeof error.code === "string" ? error.code : error.message;
}

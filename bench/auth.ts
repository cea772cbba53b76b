// Owns the benchmark `auth`: what it costs Envoy that callers prove who they are. Four fleets side by side, of which one
// asks nothing, two want a token and one a client certificate. Each has a plain static route in its own Envoy, to which its
// hits are held, so that what the machine does meanwhile meets both.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { openOracle } from "#cli/library/oracle.ts";
import { sleep } from "#platform/clock.ts";
import { StartupError } from "#platform/lifecycle.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { createAuthority } from "#platform/tls/authority.ts";
import { createRestClient } from "#test/harness/http.ts";
import type { Benchmark, BenchmarkContext, Figures } from "./benchmark.ts";
import { type BenchFleet, openBenchFleet } from "./fleet.ts";
import type { LoadPlan, LoadResult } from "./load/plan.ts";
import { type LoadProcess, openLoadProcess } from "./load/process.ts";
import { buildRequestFile, chooseCases } from "./requests.ts";
import { median, medianRatio, orderOfRound, roundTo } from "./stats.ts";

export const authBenchmark: Benchmark = {
  name: "auth",
  summary: "what it costs Envoy that callers prove who they are, by token or by certificate, beside asking nothing",
  figures: {
    envoyCpuRatioJwt:
      "Envoy CPU per REST hit with a JSON Web Token (ES256), checked each time, over a hit of a fleet that asks nothing",
    envoyCpuRatioJwtRemembered: "the same where Envoy remembers the tokens that were right (rememberTokens)",
    envoyCpuRatioMtls: "the same with mutual TLS, where the certificate is the caller, connections that stay open",
    envoyCpuPlainUs: "processor time of all Envoy's threads per hit that proves nothing, in microseconds",
    envoyCpuJwtUs: "the same with a token",
    envoyCpuMtlsUs: "the same with mutual TLS",
    javascriptRequests: "requests of the measured rounds that gateways handled; a hit is none",
    models: "warm models of each fleet, asked in turn",
    rounds: "rounds, in each of which every fleet has its turn; figures are medians over them",
  },
  run: runAuth,
};

const clients = 8;
const measureMs = 1_000;
const settleMs = 1_500;
const warmMs = 60_000;
const bytesPerModel = 512 * 1_024;
const hourMs = 3_600_000;
const principal = "bench";

interface Case {
  readonly fleet: BenchFleet;
  readonly load: LoadProcess;
  readonly sent: Pick<LoadPlan, "headers" | "tls">;
}

async function runAuth(context: BenchmarkContext, signal: AbortSignal, stack: AsyncDisposableStack): Promise<Figures> {
  const { say, rounds } = context;
  const { path: folder } = stack.use(await openRunFolder());
  const models = chooseCases(await openOracle(context.libraryFolder), Math.min(context.models, 50));
  const requestFile = join(folder, "requests.json");
  await writeFile(requestFile, JSON.stringify(buildRequestFile(models)));
  const open = async (edge: NonNullable<Parameters<typeof openBenchFleet>[0]["edge"]>, sent: Case["sent"]): Promise<Case> => {
    const fleet = await openBenchFleet({ ...context, capacityBytes: models.length * bytesPerModel, edge }, signal, stack);
    return { fleet, load: stack.use(openLoadProcess(requestFile)), sent };
  };

  say("starting four fleets: one that asks nothing, two for tokens, one for certificates");
  const token = await openToken(folder, 0);
  const kept = await openToken(folder, 100);
  const certificates = await openCertificates(folder);
  const plain = await open({}, {});
  const jwt = await open({ authFile: token.authFile }, { headers: { authorization: `Bearer ${token.token}` } });
  const remembered = await open({ authFile: kept.authFile }, { headers: { authorization: `Bearer ${kept.token}` } });
  const mtls = await open(certificates.edge, {});
  const { caFile } = mtls.fleet;
  if (caFile === undefined) throw new StartupError("the fleet for certificates has no TLS");
  const cases = {
    plain,
    jwt,
    remembered,
    mtls: { ...mtls, sent: { tls: { ...certificates.client, ca: await readFile(caFile, "utf8") } } },
  };
  for (const { fleet } of [jwt, remembered, mtls]) await letIn(fleet);
  say(`loading ${models.length} models in each`);
  for (const each of Object.values(cases)) await warm(each, models.length, signal);

  const before = await handled(cases);
  const samples: Record<keyof typeof cases, { readonly hit: number; readonly static: number }[]> = {
    plain: [],
    jwt: [],
    remembered: [],
    mtls: [],
  };
  for (let round = 0; round < rounds; round++) {
    for (const name of orderOfRound(["plain", "jwt", "remembered", "mtls"] as const, round)) {
      const hit = cpuUs(await run(cases[name], "hit", signal));
      samples[name].push({ hit, static: cpuUs(await run(cases[name], "static", signal)) });
    }
    say(`round ${round + 1} of ${rounds}`);
  }
  const relative = (name: keyof typeof cases): readonly number[] => samples[name].map((sample) => sample.hit / sample.static);
  const microseconds = (name: keyof typeof cases): number => roundTo(median(samples[name].map(({ hit }) => hit)), 1);
  return {
    envoyCpuRatioJwt: roundTo(medianRatio(relative("jwt"), relative("plain")), 3),
    envoyCpuRatioJwtRemembered: roundTo(medianRatio(relative("remembered"), relative("plain")), 3),
    envoyCpuRatioMtls: roundTo(medianRatio(relative("mtls"), relative("plain")), 3),
    envoyCpuPlainUs: microseconds("plain"),
    envoyCpuJwtUs: microseconds("jwt"),
    envoyCpuMtlsUs: microseconds("mtls"),
    javascriptRequests: (await handled(cases)) - before,
    models: models.length,
    rounds,
  };
}

async function run({ fleet, load, sent }: Case, path: "hit" | "static", signal: AbortSignal): Promise<LoadResult> {
  const result = await load.run(
    {
      wire: "rest",
      requests: "rest",
      ...fleet.ports[path].rest,
      ...(path === "hit" ? sent : {}),
      concurrency: clients,
      settleMs,
      measureMs,
      watchedPids: [fleet.pids.envoy],
    },
    signal,
  );
  if (result.failed > 0) throw new Error(`${path}: ${result.failed} requests failed: ${result.reasons.join("; ")}`);
  return result;
}

/** Until every model is warm and found for the caller; those that wait meanwhile are misses. */
async function warm(one: Case, models: number, signal: AbortSignal): Promise<void> {
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(warmMs)]);
  for (;;) {
    const before = (await one.fleet.management.stats())?.javascriptRequests;
    // Policies may not have come yet: what is refused meanwhile does not count.
    const asked = await run(one, "hit", signal).catch(() => undefined);
    const after = await one.fleet.management.stats();
    if (asked !== undefined && after?.javascriptRequests === before && (after?.warm ?? 0) >= models) return;
    await sleep(50, deadline);
  }
}

async function handled(cases: Readonly<Record<string, Case>>): Promise<number> {
  let sum = 0;
  for (const { fleet } of Object.values(cases)) sum += (await fleet.management.stats())?.javascriptRequests ?? Number.NaN;
  return sum;
}

async function letIn({ adminUrl, managementCa }: BenchFleet): Promise<void> {
  await using client = createRestClient(adminUrl, managementCa);
  const { status, text } = await client.ask("/api/v1/policies/bench", {
    method: "PUT",
    headers: [["content-type", "application/json"]],
    body: { callers: [principal] },
  });
  if (status >= 300) throw new StartupError(`the policy was refused: ${status} ${text}`);
}

function cpuUs({ cpuNs, requests }: LoadResult): number {
  return (cpuNs[0] ?? Number.NaN) / requests / 1_000;
}

async function openToken(folder: string, rememberTokens: number): Promise<{ readonly authFile: string; readonly token: string }> {
  const { publicKey, privateKey } = await generateKeyPair("ES256");
  const jwksFile = join(folder, `jwks-${rememberTokens}.json`);
  await writeFile(jwksFile, JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: "bench", alg: "ES256" }] }));
  const authFile = join(folder, `jwt-${rememberTokens}.json`);
  const issuer = "https://issuer.example";
  const corp = { name: "bench", issuer, audiences: ["warmpath"], jwks: { file: jwksFile }, rememberTokens };
  await writeFile(authFile, JSON.stringify({ jwt: [corp], apiKeys: false }));
  const token = await new SignJWT({})
    .setProtectedHeader({ alg: "ES256", kid: "bench" })
    .setIssuer(issuer)
    .setAudience("warmpath")
    .setSubject(principal)
    .setExpirationTime("1h")
    .sign(privateKey);
  return { authFile, token };
}

async function openCertificates(folder: string) {
  const authority = await createAuthority("bench clients", hourMs);
  const clientCaFile = join(folder, "clients.pem");
  await writeFile(clientCaFile, authority.cert);
  const authFile = join(folder, "mtls.json");
  await writeFile(authFile, JSON.stringify({ apiKeys: false, clientCertificates: "dns" }));
  const client = await authority.issue([principal], hourMs);
  return { edge: { authFile, tls: { host: "127.0.0.1", brought: undefined, clientCaFile } }, client };
}

// Owns the benchmark `abuse`: every attack beside a well-behaved tenant, on a whole real fleet where callers must prove who
// they are. What counts is what the victim notices, what strangers get, and that nothing dies or grows without bound.
import { createReadStream } from "node:fs";
import { readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openOracle } from "#cli/library/oracle.ts";
import { openRegistry } from "#platform/registry/open.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { openFleet, type TestFleet } from "#test/harness/fleet.ts";
import { createRestClient } from "#test/harness/http.ts";
import { waitUntil } from "#test/harness/wait.ts";
import type { Attack, AttackContext } from "./abuse/attack.ts";
import { connectionAttacks } from "./abuse/connections.ts";
import { insiderAttacks } from "./abuse/insiders.ts";
import { takeLeftover } from "./abuse/leftover.ts";
import { requestAttacks } from "./abuse/requests.ts";
import type { Benchmark, BenchmarkContext, Figures } from "./benchmark.ts";
import { nodeAnywhere, nodeInRealTime } from "./children.ts";
import { readMemory } from "./fakefleet.ts";
import { openLoadProcess } from "./load/process.ts";
import { buildRequestFile, chooseCases } from "./requests.ts";
import { median, roundTo } from "./stats.ts";

const attacks: readonly Attack[] = [...requestAttacks, ...connectionAttacks, ...insiderAttacks];

export const abuseBenchmark: Benchmark = {
  name: "abuse",
  summary: "every attack beside a well-behaved tenant: what it notices, what strangers get, what dies or grows",
  figures: {
    attacks: "attacks, each on the same fleet for some seconds; the figures of each stand under `byAttack`",
    crashes: "processes of the fleet that died, or took more memory than they may",
    wrongCodes: "answers to an attacker that are none of those it should get",
    leaked:
      "secrets, and answers of the victim's models, that came to an attacker or stand in logs, registry or Envoy's configuration",
    victimFailed: "requests of the victim, which asks for warm models all the time, that were not answered as they should be",
    victimP99Ratio:
      "99th percentile of the victim's times in the worst attack, over that of quiet times before and after; attackers have what processor time the others leave",
    hitsFirst: "1 when the fleet ran with `up --hits-first`, 0 where this machine does not allow it",
    medianP99Ratio: "the same in the median of the attacks",
    quietP99Ms: "that quiet 99th percentile",
    peakRssBytes: "the most that one process of the fleet had in memory",
  },
  run: runAbuse,
};

const victimModels = 24;
const victimClients = 32;
/** Evenly, however long answers take. */
const victimPerSecond = 200;
const settleMs = 500;
const attackMs = 8_000;
const quietMs = 2_000;
/** Of one process: Envoy keeps whole messages of slow clients, Node what it parses. */
const mostRssBytes = 2 * 2 ** 30;

interface Noted {
  attempts: number;
  wrong: number;
  leaked: number;
  readonly reasons: string[];
}

async function runAbuse(context: BenchmarkContext, signal: AbortSignal, stack: AsyncDisposableStack): Promise<Figures> {
  const { say, quick } = context;
  const { path: folder } = stack.use(await openRunFolder());
  const authFile = join(folder, "auth.json");
  await writeFile(authFile, JSON.stringify({ apiKeys: true }));
  // As docs/security.md has it where processors are few: what the victim's requests pass runs before all else.
  const watcher = await nodeInRealTime();
  const hitsFirst = watcher !== undefined;
  say(hitsFirst ? "hits first" : "no real-time priority may be set here: hits share the processors with all else");
  const fleet = stack.use(await openFleet({ pods: 2, authFile, hitsFirst }));
  const registry = stack.use(await openRegistry(fleet.registry));
  const cases = chooseCases(await openOracle(context.libraryFolder), 4_000)
    .filter(({ model }) => model.startsWith("iris-"))
    .slice(0, victimModels);
  const own = fleet.oracle.models.filter((model) => model.startsWith("wine-")).slice(0, 1_000);
  const keys = { victim: await makeKey(fleet, "victim", "iris-*"), attacker: await makeKey(fleet, "attacker", "wine-*") };
  await setQuotas(fleet);
  const requestFile = join(folder, "requests.json");
  await writeFile(requestFile, JSON.stringify(buildRequestFile(cases)));
  const load = stack.use(openLoadProcess(requestFile, watcher ?? nodeAnywhere));
  const { hostname: host, port } = new URL(fleet.restUrl);
  const victim = async (measureMs: number) =>
    await load.run(
      {
        wire: "rest",
        requests: "rest",
        host,
        port: Number(port),
        concurrency: victimClients,
        requestsPerSecond: victimPerSecond,
        headers: { "x-api-key": keys.victim },
        settleMs,
        measureMs,
        watchedPids: [],
      },
      signal,
    );
  say(`warming ${cases.length} models of the victim`);
  await warm(fleet, cases, keys.victim);
  await victim(1_000);

  say(`attackers run in what time others leave: ${await takeLeftover(stack)}`);
  const secrets = [keys.victim, keys.attacker];
  const quiet: number[] = [(await victim(attackMs)).p99Ms];
  const ratios: number[] = [];
  const sums = { crashes: 0, wrongCodes: 0, leaked: 0, victimFailed: 0, peakRssBytes: 0 };
  const byAttack: Record<string, Figures> = {};
  for (const attack of quick ? attacks.filter((_, at) => at % 4 === 0) : attacks) {
    say(`${attack.name}: ${attack.what}`);
    const noted: Noted = { attempts: 0, wrong: 0, leaked: 0, reasons: [] };
    const before = restartsOf(fleet);
    let watched = true;
    const during = victim(attackMs).finally(() => {
      watched = false;
    });
    const parts = { fleet, registry, own, theirs: cases.map(({ model }) => model), secrets, signal };
    await using attacking = new AsyncDisposableStack();
    const attackContext: AttackContext = { ...parts, key: keys.attacker, goesOn: () => watched, ...noting(noted, secrets) };
    const attacked = attack.run(attackContext, attacking).catch((error: unknown) => {
      signal.throwIfAborted();
      say(`  the attack itself failed: ${error instanceof Error ? error.message : String(error)}`);
    });
    const seen = await during;
    const rssBytes = await largestRss(fleet);
    await attacked;
    await attacking.disposeAsync();
    const died = restartsOf(fleet) - before;
    const figures = {
      attempts: noted.attempts,
      crashes: died + (rssBytes > mostRssBytes ? 1 : 0),
      wrongCodes: noted.wrong,
      leaked: noted.leaked,
      victimRequests: seen.requests,
      victimFailed: seen.failed,
      victimP99Ms: roundTo(seen.p99Ms, 2),
      rssBytes,
    };
    byAttack[attack.name] = figures;
    say(`  ${JSON.stringify(figures)}`);
    for (const reason of [...noted.reasons, ...seen.reasons]) say(`  ${reason}`);
    await fleet.whenServing();
    // What an attack leaves behind is its own, not the next one's.
    const after = await victim(quietMs);
    quiet.push(after.p99Ms);
    ratios.push(seen.p99Ms);
    sums.crashes += figures.crashes;
    sums.wrongCodes += noted.wrong;
    sums.leaked += noted.leaked;
    sums.victimFailed += seen.failed + after.failed;
    sums.peakRssBytes = Math.max(sums.peakRssBytes, rssBytes);
  }
  const found = await findSecrets(fleet, secrets);
  for (const where of found) say(`a secret stands in ${where}`);
  const quietP99Ms = median(quiet);
  return {
    attacks: ratios.length,
    crashes: sums.crashes,
    wrongCodes: sums.wrongCodes,
    leaked: sums.leaked + found.length,
    victimFailed: sums.victimFailed,
    victimP99Ratio: roundTo(Math.max(...ratios) / quietP99Ms, 2),
    medianP99Ratio: roundTo(median(ratios) / quietP99Ms, 2),
    quietP99Ms: roundTo(quietP99Ms, 2),
    hitsFirst: hitsFirst ? 1 : 0,
    peakRssBytes: sums.peakRssBytes,
    byAttack,
  };
}

function noting(noted: Noted, secrets: readonly string[]): Pick<AttackContext, "note" | "got"> {
  const reason = (text: string): void => {
    if (noted.reasons.length < 5 && !noted.reasons.includes(text)) noted.reasons.push(text);
  };
  return {
    note(well, what) {
      noted.attempts += 1;
      if (well) return;
      noted.wrong += 1;
      reason(what);
    },
    got(text) {
      // The victim's key, or what one of its models answers.
      if (!text.includes(secrets[0] ?? "") && !/"model_name":"iris-/.test(text)) return;
      noted.leaked += 1;
      reason(`it got ${text.slice(0, 100)}`);
    },
  };
}

async function makeKey(fleet: TestFleet, principal: string, models: string): Promise<string> {
  const made = await fleet.manage("POST", "/api/v1/keys", { principal });
  const { json } = made;
  if (typeof json !== "object" || json === null || !("key" in json) || typeof json.key !== "string") throw new Error(made.text);
  const put = await fleet.manage("PUT", `/api/v1/policies/${principal}`, { callers: [principal], models: { names: [models] } });
  if (put.status >= 300) throw new Error(put.text);
  return json.key;
}

/** As docs/security.md has it before strangers reach the ports: nobody is without a quota, and the victim's is large. */
async function setQuotas(fleet: TestFleet): Promise<void> {
  const quotas = {
    strangers: { tenants: ["anonymous"], requestsPerSecond: 50 },
    everybody: { tenants: ["authenticated"], requestsPerSecond: 100, parkedRequests: 20, loadsUnderWay: 4 },
    victim: { tenants: ["victim"], requestsPerSecond: 100_000 },
  };
  for (const [name, quota] of Object.entries(quotas)) {
    const put = await fleet.manage("PUT", `/api/v1/quotas/${name}`, quota);
    if (put.status >= 300) throw new Error(put.text);
  }
}

async function warm(fleet: TestFleet, cases: ReturnType<typeof chooseCases>, key: string): Promise<void> {
  await using client = createRestClient(fleet.restUrl);
  for (const { model, body } of cases) {
    await waitUntil(
      `${model} is answered`,
      async () => (await client.ask(`/v2/models/${model}/infer`, { headers: [["x-api-key", key]], body })).status,
      (status) => status === 200,
    );
  }
}

function restartsOf({ processes }: TestFleet): number {
  return Array.from(processes.values()).reduce((sum, { restarts }) => sum + restarts, 0);
}

async function largestRss({ processes }: TestFleet): Promise<number> {
  const pids = Array.from(processes.values()).flatMap(({ pid }) => pid ?? []);
  const memories = await Promise.all(pids.map((pid) => readMemory(pid).catch(() => ({ rssBytes: 0 }))));
  return Math.max(...memories.map(({ rssBytes }) => rssBytes));
}

/** Where secrets stand that must stand nowhere: of keys only hashes are kept. */
async function findSecrets(fleet: TestFleet, secrets: readonly string[]): Promise<readonly string[]> {
  const found: string[] = [];
  for (const folder of [fleet.stateFolder, fleet.logFolder, fleet.runFolder]) {
    const entries = await readdir(folder, { recursive: true, withFileTypes: true });
    for (const entry of entries.filter((each) => each.isFile())) {
      const file = join(entry.parentPath, entry.name);
      if (await holds(file, secrets)) found.push(entry.name);
    }
  }
  const config = await fleet.envoyConfig("");
  if (secrets.some((secret) => config.includes(secret))) found.push("Envoy's configuration");
  return found;
}

async function holds(file: string, secrets: readonly string[]): Promise<boolean> {
  let rest = "";
  const longest = Math.max(...secrets.map(({ length }) => length));
  for await (const chunk of createReadStream(file, "latin1")) {
    const text = rest + String(chunk);
    if (secrets.some((secret) => text.includes(secret))) return true;
    rest = text.slice(-longest);
  }
  return false;
}

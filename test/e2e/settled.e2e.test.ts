// When a model's name means its new revision everywhere: three gateways, each with an Envoy of its own, one of which stands
// still.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";
import { openFleet, type TestFleet } from "../harness/fleet.ts";
import { freezeProcess } from "../harness/proc.ts";
import { waitUntil } from "../harness/wait.ts";

interface Answer {
  readonly revision: string;
  readonly settled: boolean;
  readonly lagging: readonly string[];
}

const stack = new AsyncDisposableStack();
const waitMs = 60_000;
const model = "edited";
let fleet: TestFleet;

before(async () => {
  fleet = stack.use(await openFleet({ gateways: 3, pods: 2 }));
  await fleet.whenServing();
  const put = await fleet.manage("PUT", `/api/v1/models/${model}`, { ...artefact("0001"), revision: "one" });
  assert.equal(put.status, 201, put.text);
  const loaded = await fleet.manage("POST", `/api/v1/models/${model}/load`, {});
  assert.equal(loaded.status, 200, loaded.text);
});

after(() => stack.disposeAsync());

function artefact(number: string): { readonly format: string; readonly storageUri: string } {
  const storageUri = pathToFileURL(join(fleet.libraryFolder, `models/iris/iris-t${number}.onnx`)).href;
  return { format: "onnx", storageUri };
}

async function isSettled(revision?: string): Promise<Answer> {
  const query = revision === undefined ? "" : `?revision=${revision}`;
  const { status, text, json } = await fleet.manage("GET", `/api/v1/models/${model}/settled${query}`);
  assert.equal(status, 200, text);
  return json as Answer;
}

async function untilSettled(revision: string): Promise<void> {
  await waitUntil(
    `every gateway's clients are answered by ${revision}`,
    () => isSettled(revision),
    ({ settled }) => settled,
    waitMs,
  );
}

test("a model is settled when every gateway's Envoy has the routes of its active revision, and no sooner", async () => {
  await untilSettled("one");
  assert.deepEqual(await isSettled("two"), {
    name: model,
    revision: "two",
    settled: false,
    lagging: fleet.gateways.map(({ gatewayId }) => gatewayId),
  });
  const still = fleet.process("envoy-2").pid ?? assert.fail();
  await freezeProcess(still);
  try {
    const posted = await fleet.manage("POST", `/api/v1/models/${model}/revisions`, { ...artefact("0002"), id: "two" });
    assert.equal(posted.status, 200, posted.text);
    const seen = await waitUntil(
      "two gateways' clients are answered by the new revision",
      () => isSettled("two"),
      ({ lagging }) => lagging.length === 1,
      waitMs,
    );
    assert.deepEqual(seen, { name: model, revision: "two", settled: false, lagging: [fleet.gateways[2]?.gatewayId] });
  } finally {
    process.kill(still, "SIGCONT");
  }
  await untilSettled("two");
  assert.equal((await isSettled()).revision, "two");
});

test("of a model that nobody knows nothing is said", async () => {
  assert.equal((await fleet.manage("GET", "/api/v1/models/nobody/settled")).status, 404);
});

// What an S3 server refuses that knows its users, their keys and what they may read: its own words, and not scripted ones.
import assert from "node:assert/strict";
import { test } from "node:test";
import { CreateBucketCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { openMoto } from "#test/storage/servers.ts";
import { openPullBench } from "../testing/bench.ts";

const never = new AbortController().signal;

/** IAM's API, as far as it takes to make a user with a key. */
async function callIam(url: string, fields: Readonly<Record<string, string>>): Promise<string> {
  const answer = await fetch(url, {
    method: "POST",
    body: new URLSearchParams({ ...fields, Version: "2010-05-08" }),
    // What says which of Amazon's services is meant.
    headers: { authorization: "AWS4-HMAC-SHA256 Credential=none/20260101/us-east-1/iam/aws4_request, Signature=none" },
  });
  const text = await answer.text();
  assert.equal(answer.status, 200, text);
  return text;
}

async function makeUser(url: string, name: string, mayRead: boolean): Promise<{ readonly id: string; readonly secret: string }> {
  await callIam(url, { Action: "CreateUser", UserName: name });
  if (mayRead) {
    const allowed = { Effect: "Allow", Action: ["s3:GetObject", "s3:HeadObject", "s3:ListBucket"], Resource: "*" };
    const PolicyDocument = JSON.stringify({ Version: "2012-10-17", Statement: [allowed] });
    await callIam(url, { Action: "PutUserPolicy", UserName: name, PolicyName: "read", PolicyDocument });
  }
  const made = await callIam(url, { Action: "CreateAccessKey", UserName: name });
  const read = (element: string): string => new RegExp(`<${element}>(.+)</${element}>`).exec(made)?.[1] ?? assert.fail(made);
  return { id: read("AccessKeyId"), secret: read("SecretAccessKey") };
}

test("an S3 server that checks credentials lets in who may read, and its refusals are told apart", {
  timeout: 1_800_000,
}, async () => {
  await using server = await openMoto();
  const open = { accessKeyId: "any", secretAccessKey: "any" };
  const client = new S3Client({ endpoint: server.url, region: "us-east-1", forcePathStyle: true, credentials: open });
  await client.send(new CreateBucketCommand({ Bucket: "models-bucket" }));
  await client.send(new PutObjectCommand({ Bucket: "models-bucket", Key: "iris", Body: Buffer.from("iris") }));
  client.destroy();
  const reader = await makeUser(server.url, "reader", true);
  const stranger = await makeUser(server.url, "stranger", false);
  // From now on it checks.
  assert.equal((await fetch(`${server.url}/moto-api/reset-auth`, { method: "POST", body: "0" })).status, 200);

  await using bench = await openPullBench();
  const users = {
    reader,
    stranger,
    forged: { id: reader.id, secret: "not-its-s3cret" },
    unknown: { id: "AKIAUNKNOWN", secret: "s3cret" },
  };
  for (const [key, { id, secret }] of Object.entries(users)) {
    const account = { access_key_id: id, secret_access_key: secret };
    await bench.setEntry(key, { type: "s3", ...account, endpoint_url: server.url, region: "us-east-1" });
  }
  const pull = (storageKey: string): ReturnType<typeof bench.puller.pull> =>
    bench.puller.pull({ storageUri: "s3://models-bucket/iris", storageKey }, never);
  for (const [key, expected] of [
    ["stranger", /permission to read s3:\/\/models-bucket\/iris is denied/],
    ["forged", /credentials are not accepted for s3:\/\/models-bucket\/iris/],
    ["unknown", /credentials are not accepted for s3:\/\/models-bucket\/iris/],
  ] as const) {
    const refused = await pull(key);
    assert.ok(refused.kind === "failed" && refused.failure === "storage", JSON.stringify(refused));
    assert.match(refused.reason, expected);
    assert.ok(!refused.reason.includes(users[key].secret));
  }
  const pulled = await pull("reader");
  assert.equal(pulled.kind, "ok", JSON.stringify(pulled));
  const again = await pull("stranger");
  assert.equal(again.kind, "failed", "what others may read is on the disk, and is not for whoever may not");
});

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { create, createFileRegistry, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { GenService } from "@bufbuild/protobuf/codegenv2";
import {
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
  file_google_protobuf_wrappers,
  type StringValue,
  StringValueSchema,
} from "@bufbuild/protobuf/wkt";
import { Server, type ServiceError, status } from "@grpc/grpc-js";
import { addService, bindServer, closeServer, createClient, type ServiceClient, serviceDefinition } from "./grpc.ts";
import { waitFor } from "./testing.ts";

type Text = typeof StringValueSchema;
type Echo = GenService<{
  one: { methodKind: "unary"; input: Text; output: Text };
  split: { methodKind: "server_streaming"; input: Text; output: Text };
  joinAll: { methodKind: "client_streaming"; input: Text; output: Text };
  talk: { methodKind: "bidi_streaming"; input: Text; output: Text };
}>;

const echo = echoService();
const text = (value: string): StringValue => create(StringValueSchema, { value });

/** No generated service streams from the server only, so the test describes one with all four kinds. */
function echoService(): Echo {
  const type = ".google.protobuf.StringValue";
  const file = create(FileDescriptorProtoSchema, {
    name: "echo.proto",
    package: "test",
    syntax: "proto3",
    dependency: ["google/protobuf/wrappers.proto"],
    service: [
      {
        name: "Echo",
        method: [
          { name: "One", inputType: type, outputType: type },
          { name: "Split", inputType: type, outputType: type, serverStreaming: true },
          { name: "JoinAll", inputType: type, outputType: type, clientStreaming: true },
          { name: "Talk", inputType: type, outputType: type, clientStreaming: true, serverStreaming: true },
        ],
      },
    ],
  });
  const registry = createFileRegistry(create(FileDescriptorSetSchema, { file: [file_google_protobuf_wrappers.proto, file] }));
  const service = registry.getService("test.Echo");
  assert.ok(service);
  return service as unknown as Echo;
}

function echoServer(): Server {
  const server = new Server();
  addService(server, echo, {
    one: (call, callback) => {
      if (call.request.value === "hang") return;
      if (call.request.value === "refuse") callback({ code: status.FAILED_PRECONDITION, details: "not now" });
      else callback(null, text(`${call.request.value}!${String(call.metadata.get("tag")[0] ?? "")}`));
    },
    split: (call) => {
      for (const word of call.request.value.split(" ")) call.write(text(word));
      call.end();
    },
    joinAll: (call, callback) => {
      const words: string[] = [];
      call.on("data", (word) => words.push(word.value));
      call.on("end", () => callback(null, text(words.join(" "))));
    },
    talk: (call) => {
      call.on("data", (word) => call.write(text(word.value.toUpperCase())));
      call.on("end", () => call.end());
    },
  });
  return server;
}

for (const place of ["tcp", "unix"]) {
  describe(`calls over ${place}`, () => {
    let server: Server;
    let client: ServiceClient<Echo>;
    let folder: string;

    before(async () => {
      folder = await mkdtemp(join(tmpdir(), "grpc-"));
      server = echoServer();
      const address = place === "tcp" ? "127.0.0.1:0" : `unix:${join(folder, "s")}`;
      const port = await bindServer(server, address);
      client = createClient(echo, place === "tcp" ? `127.0.0.1:${port}` : address);
    });

    after(async () => {
      client[Symbol.dispose]();
      await closeServer(server, 1_000);
      await rm(folder, { recursive: true });
    });

    test("unary answers", async () => {
      assert.equal((await client.one(text("hi"), { timeoutMs: 60_000 })).value, "hi!");
    });

    test("unary failure carries the status", async () => {
      await assert.rejects(client.one(text("refuse"), { timeoutMs: 60_000 }), (error: ServiceError) => {
        assert.equal(error.code, status.FAILED_PRECONDITION);
        return error.details === "not now";
      });
    });

    test("unary ends at its deadline", async () => {
      await assert.rejects(client.one(text("hang"), { timeoutMs: 50 }), { code: status.DEADLINE_EXCEEDED });
    });

    test("an aborted unary rejects with the signal's reason", async () => {
      const stop = new AbortController();
      const answer = client.one(text("hang"), { timeoutMs: 60_000, signal: stop.signal });
      const reason = new Error("the user left");
      stop.abort(reason);
      await assert.rejects(answer, reason);
      await assert.rejects(client.one(text("hang"), { timeoutMs: 60_000, signal: stop.signal }), reason);
    });

    test("server streaming", async () => {
      const words: string[] = [];
      for await (const word of client.split(text("a b c"))) words.push((word as StringValue).value);
      assert.deepEqual(words, ["a", "b", "c"]);
    });

    test("client streaming", async () => {
      const answer = client.joinAll({ timeoutMs: 60_000 });
      answer.call.write(text("x"));
      answer.call.write(text("y"));
      answer.call.end();
      assert.equal((await answer).value, "x y");
    });

    test("bidirectional streaming", async () => {
      const call = client.talk();
      const words: string[] = [];
      call.on("data", (word: StringValue) => words.push(word.value));
      call.write(text("a"));
      await waitFor(() => words.length === 1);
      call.write(text("b"));
      await waitFor(() => words.length === 2);
      call.end();
      await waitFor(() => call.destroyed);
      assert.deepEqual(words, ["A", "B"]);
    });

    test("a signal ends a stream", async () => {
      const stop = new AbortController();
      const call = client.talk({ signal: stop.signal });
      const failed = Promise.withResolvers<ServiceError>();
      call.on("error", (error) => failed.resolve(error as ServiceError));
      stop.abort();
      assert.equal((await failed.promise).code, status.CANCELLED);
    });
  });
}

test("a hand-written codec takes the place of a method's own", async () => {
  const codecs = {
    one: {
      requestDeserialize: (bytes: Buffer): number => Number(fromBinary(StringValueSchema, bytes).value),
      responseSerialize: (value: number): Buffer => Buffer.from(toBinary(StringValueSchema, text(String(value)))),
    },
  };
  const server = new Server();
  addService(server, echo, { one: (call, callback) => callback(null, call.request * 2) }, codecs);
  const port = await bindServer(server, "127.0.0.1:0");
  using client = createClient(echo, `127.0.0.1:${port}`);
  assert.equal((await client.one(text("21"), { timeoutMs: 60_000 })).value, "42");
  await assert.rejects(client.joinAll({ timeoutMs: 60_000 }), { code: status.UNIMPLEMENTED });
  client[Symbol.dispose]();
  await closeServer(server, 1_000);
});

test("a definition knows path and kind of each method", () => {
  const definition = serviceDefinition(echo);
  assert.equal(definition.joinAll.path, "/test.Echo/JoinAll");
  assert.deepEqual([definition.joinAll.requestStream, definition.joinAll.responseStream], [true, false]);
  assert.deepEqual([definition.split.requestStream, definition.split.responseStream], [false, true]);
});

test("a port that is taken is an error", async () => {
  const server = echoServer();
  const port = await bindServer(server, "127.0.0.1:0");
  await assert.rejects(bindServer(echoServer(), `127.0.0.1:${port}`));
  await closeServer(server, 0);
});

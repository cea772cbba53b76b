// Owns a scripted model server like those of others: it answers under the name that it was asked by, slot and all, over
// REST (V2, V1, OpenAI-style) and gRPC (V2, and any service that names the model in a header), and keeps who asked it. Of a
// stream a header says more than the messages, as with the built-in model server.
import { createServer as createHttp1Server, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createHttp2Server, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo, Server as NetServer } from "node:net";
import { buffer } from "node:stream/consumers";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  ModelInferRequestSchema,
  ModelInferResponseSchema,
  ModelMetadataResponseSchema,
  ModelReadyRequestSchema,
  ModelReadyResponseSchema,
  ModelStreamInferResponseSchema,
} from "#proto/gen/inference/open_inference_pb.ts";
import { frameOf } from "./grpc.ts";

export interface Asked {
  /** Such as `v2`, `v1`, `openai`, `ModelInfer`, or the path of another service. */
  readonly call: string;
  /** What the model is called here. */
  readonly name: string;
  readonly bodyBytes: number;
}

export interface NamingServer extends AsyncDisposable {
  /** `host:port` */
  readonly restAddress: string;
  readonly grpcAddress: string;
  readonly asked: readonly Asked[];
  /** From now on it takes requests and answers none; false: those that come from now on are answered. */
  setSilent(silent: boolean): void;
}

export async function openNamingServer(): Promise<NamingServer> {
  const asked: Asked[] = [];
  let silent = false;
  const rest = createHttp1Server((request, response) => {
    void answerRest(request, response).catch(() => response.destroy());
  });
  const sessions = new Set<ServerHttp2Session>();
  const grpc = createHttp2Server();
  grpc.on("session", (session) => {
    sessions.add(session);
    session.on("close", () => sessions.delete(session));
  });
  grpc.on("stream", (stream: ServerHttp2Stream, headers) => {
    stream.on("error", () => undefined);
    const named = headers["mm-model-id"];
    answerGrpc(stream, String(headers[":path"]), typeof named === "string" ? named : "");
  });

  async function answerRest(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url ?? "";
    const body = await buffer(request);
    const [, kind = "", name = ""] = /^\/(v[12])\/models\/([^/:]+)/.exec(path) ?? [];
    if (kind !== "") {
      asked.push({ call: kind, name, bodyBytes: body.length });
      if (silent) return;
      return json(response, path.endsWith("/infer") ? { model_name: name, outputs } : { name, ready: true, predictions: [1] });
    }
    const { model, stream } = Object(JSON.parse(body.toString())) as { model?: unknown; stream?: unknown };
    asked.push({ call: "openai", name: String(model), bodyBytes: body.length });
    if (silent) return;
    if (stream !== true) return json(response, { object: "chat.completion", choices: [], model });
    response.writeHead(200, { "content-type": "text/event-stream" });
    // Cut where it hurts: in the middle of a name.
    for (let event = 0; event < 3; event++) {
      const text = `data: ${JSON.stringify({ id: event, model, choices: [] })}\n\n`;
      const cut = text.indexOf(String(model)) + 2;
      response.write(text.slice(0, cut));
      await new Promise((resolve) => setTimeout(resolve, 5));
      response.write(text.slice(cut));
    }
    response.end("data: [DONE]\n\n");
  }

  function answerGrpc(stream: ServerHttp2Stream, path: string, named: string): void {
    const call = /^\/inference\.GRPCInferenceService\/(\w+)$/.exec(path)?.[1] ?? path;
    const cut = createFrameCutter();
    stream.on("data", (chunk: Buffer) => {
      for (const message of cut(chunk)) {
        const { name, answer } = answerTo(call, message, named);
        asked.push({ call, name, bodyBytes: message.length });
        if (silent) continue;
        if (!stream.headersSent) {
          stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
          stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
        }
        stream.write(frameOf(answer));
      }
    });
    stream.on("end", () => (silent ? undefined : stream.end()));
  }

  return {
    restAddress: await listen(rest),
    grpcAddress: await listen(grpc),
    asked,
    setSilent(next) {
      silent = next;
    },
    async [Symbol.asyncDispose]() {
      rest.closeAllConnections();
      for (const session of sessions) session.destroy();
      await Promise.all([rest, grpc].map(closeServer));
    },
  };
}

const outputs = [{ name: "y~1", datatype: "FP32", shape: [1], data: [1] }];

function answerTo(call: string, message: Buffer, named: string): { readonly name: string; readonly answer: Uint8Array } {
  switch (call) {
    case "ModelInfer": {
      const { modelName } = fromBinary(ModelInferRequestSchema, message);
      return { name: modelName, answer: toBinary(ModelInferResponseSchema, create(ModelInferResponseSchema, { modelName })) };
    }
    case "ModelStreamInfer": {
      const { id, modelName: inMessage } = fromBinary(ModelInferRequestSchema, message);
      const modelName = named === "" ? inMessage : named;
      const answer = create(ModelStreamInferResponseSchema, { inferResponse: { modelName, id } });
      return { name: modelName, answer: toBinary(ModelStreamInferResponseSchema, answer) };
    }
    case "ModelMetadata": {
      const { name } = fromBinary(ModelReadyRequestSchema, message);
      return { name, answer: toBinary(ModelMetadataResponseSchema, create(ModelMetadataResponseSchema, { name })) };
    }
    case "ModelReady": {
      const { name } = fromBinary(ModelReadyRequestSchema, message);
      return { name, answer: toBinary(ModelReadyResponseSchema, create(ModelReadyResponseSchema, { ready: true })) };
    }
    default:
      return { name: named, answer: message };
  }
}

/** Whole messages out of what comes. */
function createFrameCutter(): (chunk: Buffer) => Buffer[] {
  let rest = Buffer.alloc(0);
  return (chunk) => {
    rest = Buffer.concat([rest, chunk]);
    const messages: Buffer[] = [];
    while (rest.length >= 5 && rest.length >= 5 + rest.readUInt32BE(1)) {
      const end = 5 + rest.readUInt32BE(1);
      messages.push(rest.subarray(5, end));
      rest = rest.subarray(end);
    }
    return messages;
  };
}

function json(response: ServerResponse, body: unknown): void {
  response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(body));
}

async function listen(server: NetServer): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(0, "127.0.0.1", resolve);
  await promise;
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function closeServer(server: NetServer): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  server.close(() => resolve());
  await promise;
}

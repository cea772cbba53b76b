// Owns the gateway's end of one Link for the benchmark of loads: asks for copies and tells when each is ready.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { createClient } from "#platform/grpc.ts";
import { type Copy, CopyState, GatewayMessageSchema, Link, LoadClass } from "#proto/gen/warmpath/link/v1/link_pb.ts";

export interface LoadClient extends Disposable {
  readonly linked: Promise<void>;
  /** Resolves when the copy is ready; rejects when it fails or is refused. */
  load(model: string, storageUri: string): Promise<void>;
}

const waitMs = 600_000;

export function openLoadClient(address: string): LoadClient {
  const client = createClient(Link, address);
  const stream = client.attach();
  const linked = Promise.withResolvers<void>();
  const waiting = new Map<string, PromiseWithResolvers<void>>();
  const end = (reason: string): void => {
    linked.reject(new Error(reason));
    for (const each of waiting.values()) each.reject(new Error(reason));
  };
  linked.promise.catch(() => undefined);
  const see = ({ model, state, failure }: Copy): void => {
    if (state === CopyState.READY) waiting.get(model)?.resolve();
    if (state === CopyState.FAILED) waiting.get(model)?.reject(new Error(`${model} failed: ${failure?.reason}`));
  };
  const send = (message: MessageInitShape<typeof GatewayMessageSchema>): void => {
    stream.write(create(GatewayMessageSchema, message));
  };
  stream.on("data", ({ message }) => {
    switch (message.case) {
      case "snapshot":
        if (message.value.last) linked.resolve();
        return;
      case "delta":
        for (const copy of message.value.copies) see(copy);
        if (message.value.withdraw) send({ message: { case: "withdrawAck", value: { sequence: message.value.sequence } } });
        return;
      case "loadRefused":
        waiting.get(message.value.model)?.reject(new Error(`${message.value.model} was refused: ${message.value.reason}`));
    }
  });
  stream.on("error", (error) => end(String(error)));
  stream.on("end", () => end("the Link ended"));
  send({ message: { case: "hello", value: { gatewayId: "bench" } } });
  return {
    linked: linked.promise,
    async load(model, storageUri): Promise<void> {
      const ready = Promise.withResolvers<void>();
      waiting.set(model, ready);
      const revision = { model, revision: "r1", slot: 0, format: "onnx", storageUri };
      send({ message: { case: "load", value: { revision, loadClass: LoadClass.WAITING_USER, waitMs } } });
      try {
        await ready.promise;
      } finally {
        waiting.delete(model);
      }
    },
    [Symbol.dispose](): void {
      stream.cancel();
      client[Symbol.dispose]();
    },
  };
}

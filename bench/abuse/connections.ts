// Owns the attacks by connections: many, slow, broken, or torn down all the time.

import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect as connectHttp2, constants } from "node:http2";
import { connect, type Socket } from "node:net";
import { sleep } from "#platform/clock.ts";
import { createRestClient } from "#test/harness/http.ts";
import { type Attack, type AttackContext, flood } from "./attack.ts";

/** Ten times as many as Envoy keeps. */
const idle = 100_000;
const idleAtOnce = 200;
/** Ports of one address do not suffice for more. */
const perAddress = 2_000;

function ports({ fleet }: AttackContext): { readonly rest: number; readonly grpc: number } {
  return { rest: Number(new URL(fleet.restUrl).port), grpc: Number(fleet.grpcTarget.split(":")[1]) };
}

async function open(port: number, stack: AsyncDisposableStack, from = 1): Promise<Socket> {
  const socket = connect({ host: "127.0.0.1", port, localAddress: `127.0.0.${from}` });
  socket.on("error", () => undefined);
  stack.defer(() => void socket.destroy());
  await Promise.race([once(socket, "connect"), once(socket, "close")]);
  return socket;
}

/** Who is no attacker and has no connection yet: one that is closed at once is opened once more, as clients do. */
async function comeAnew({ fleet, goesOn, note, signal }: AttackContext): Promise<void> {
  const ask = async (): Promise<number | undefined> => {
    await using client = createRestClient(fleet.restUrl);
    return (await client.ask("/v2/health/live").catch(() => undefined))?.status;
  };
  while (goesOn()) {
    const status = (await ask()) ?? (await ask());
    note(status === 200, `a new connection was not served: ${status ?? "no answer, twice"}`);
    await sleep(50, signal);
  }
}

export const connectionAttacks: readonly Attack[] = [
  {
    name: "idleConnections",
    what: `${idle} connections on which nothing is ever said, and callers that come anew beside them`,
    async run(context, stack) {
      const { rest, grpc } = ports(context);
      const come = async (): Promise<void> => {
        for (let at = 0; at < idle && context.goesOn(); at += idleAtOnce) {
          const from = 2 + Math.floor(at / perAddress);
          await Promise.all(Array.from({ length: idleAtOnce }, (_, n) => open(n % 2 === 0 ? rest : grpc, stack, from)));
        }
      };
      await Promise.all([come(), comeAnew(context)]);
    },
  },
  {
    name: "slowRequests",
    what: "five hundred clients that send the head of a request a byte at a time",
    async run(context, stack) {
      const { rest } = ports(context);
      const text = `POST /v2/models/${context.theirs[0]}/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n`;
      const sockets = await Promise.all(Array.from({ length: 500 }, () => open(rest, stack)));
      for (let at = 0; context.goesOn(); at++) {
        for (const socket of sockets) if (socket.writable) socket.write(text[at % text.length] ?? "x");
        await sleep(100, context.signal);
      }
    },
  },
  {
    name: "slowReaders",
    what: "a hundred clients that ask again and again and read no answer",
    async run(context, stack) {
      const { rest } = ports(context);
      const request = `GET /v2/models/${context.own[0]} HTTP/1.1\r\nhost: x\r\nx-api-key: ${context.key}\r\n\r\n`;
      const sockets = await Promise.all(Array.from({ length: 100 }, () => open(rest, stack)));
      for (const socket of sockets) socket.pause();
      while (context.goesOn()) {
        for (const socket of sockets) if (socket.writable && !socket.writableNeedDrain) socket.write(request.repeat(20));
        await sleep(20, context.signal);
      }
    },
  },
  {
    name: "garbage",
    what: "random bytes on both ports, and requests that are nearly right",
    async run(context, stack) {
      const { rest, grpc } = ports(context);
      const heads = [
        "GET / HTTP/9.9\r\n\r\n",
        "POST /v2/models/x/infer HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\nhost: x\r\n\r\nhello",
        "POST /v2/models/x/infer HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\nhost: x\r\n\r\n0\r\n\r\nGET /metrics HTTP/1.1\r\nhost: x\r\n\r\n",
        "POST /v2/models/x/infer HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00",
      ];
      await flood(context, 8, async (at) => {
        await using own = new AsyncDisposableStack();
        const socket = await open(at % 2 === 0 ? rest : grpc, own);
        const got: Buffer[] = [];
        socket.on("data", (chunk: Buffer) => got.push(chunk));
        socket.end(at % 3 === 0 ? randomBytes(4_096) : (heads[at % heads.length] ?? ""));
        await Promise.race([once(socket, "close"), sleep(1_000, context.signal)]);
        const text = Buffer.concat(got).toString("latin1");
        context.got(text);
        context.note(!/^HTTP\/1\.1 200/m.test(text), `garbage was answered: ${text.slice(0, 100)}`);
      });
      void stack;
    },
  },
  {
    name: "rapidResets",
    what: "streams over HTTP/2 that are opened and reset at once, hundreds at a time (CVE-2023-44487)",
    async run(context, stack) {
      const { grpc } = ports(context);
      await flood(context, 2, async () => {
        const session = connectHttp2(`http://127.0.0.1:${grpc}`);
        session.on("error", () => undefined);
        stack.defer(() => session.destroy());
        await Promise.race([once(session, "connect"), once(session, "close")]);
        for (let burst = 0; burst < 50 && context.goesOn() && !session.destroyed; burst++) {
          for (let n = 0; n < 100 && !session.destroyed; n++) {
            const stream = session.request({ ":method": "POST", ":path": `/x.Y/Z${n}`, "mm-model-id": context.theirs[0] ?? "x" });
            stream.on("error", () => undefined);
            stream.close(constants.NGHTTP2_CANCEL);
          }
          await sleep(5, context.signal);
        }
        session.destroy();
      });
    },
  },
  {
    name: "connectionChurn",
    what: "connections that are opened, ask for a model that is not theirs, and are torn down with the answer under way",
    async run(context, stack) {
      const { rest } = ports(context);
      const text = `POST /v2/models/${context.theirs[0]}/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}`;
      await flood(context, 16, async () => {
        await using own = new AsyncDisposableStack();
        const socket = await open(rest, own);
        socket.write(text);
        await sleep(1, context.signal);
        socket.resetAndDestroy();
      });
      void stack;
    },
  },
];

// Owns a real gRPC server of Google's library, as Triton and MLServer have, that takes a model's name from each message.

import { dyingWithParent } from "#cli/up/parentdeath.ts";
import { superviseProcess } from "#platform/process.ts";
import { clientPython } from "#test/clients/environment.ts";
import { waitUntil } from "./wait.ts";

export interface StreamServer extends AsyncDisposable {
  /** `host:port` */
  readonly address: string;
  /** The name in each message that it got, in order. */
  readonly asked: readonly string[];
}

export async function openStreamServer(models: readonly string[]): Promise<StreamServer> {
  const script = new URL("../servers/streams.py", import.meta.url).pathname;
  const asked: string[] = [];
  const told: string[] = [];
  const child = superviseProcess({
    name: "stream server",
    ...(await dyingWithParent({ command: await clientPython(), args: [script, ...models] })),
    restart: { kind: "never" },
    onOutput(line) {
      told.push(line);
      if (line.startsWith("asked ")) asked.push(line.slice("asked ".length));
    },
  });
  const port = await waitUntil(
    "the stream server listens",
    () => /^port (\d+)$/m.exec(told.join("\n"))?.[1],
    (found) => found !== undefined,
  );
  return { address: `127.0.0.1:${port}`, asked, [Symbol.asyncDispose]: () => child[Symbol.asyncDispose]() };
}

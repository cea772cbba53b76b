// Holds the driver of the built-in model server to the contract, over the real server.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Client } from "undici";
import { systemClock } from "#platform/clock.ts";
import { type SupervisedProcess, superviseProcess } from "#platform/process.ts";
import { openRunFolder } from "#platform/tempdir.ts";
import { identityGraph } from "#runtimes/onnx/testing/graphs.ts";
import { createOnnxDriver } from "./onnx.ts";
import { type DriverHarness, describeDriver } from "./suite.ts";

async function openHarness(): Promise<DriverHarness> {
  const folder = await openRunFolder();
  const at = (name: string): string => join(folder.path, name);
  const adminSocket = at("admin.sock");
  await writeFile(at("good.onnx"), identityGraph("FP32"));
  await writeFile(at("broken.onnx"), "no model");
  let server: SupervisedProcess;
  const revive = async (): Promise<void> => {
    server = superviseProcess({
      name: "onnx",
      command: process.execPath,
      args: [
        "runtimes/onnx/main.ts",
        "--rest-port",
        "0",
        "--grpc-port",
        "0",
        "--admin-socket",
        adminSocket,
        "--exit-with-parent",
      ],
      cwd: new URL("../..", import.meta.url).pathname,
      readyLine: /"ready":true/,
      restart: { kind: "never" },
    });
    await server.ready;
  };
  await revive();
  const signal = (name: NodeJS.Signals): void => void process.kill(server.pid ?? 0, name);
  return {
    openDriver: () => createOnnxDriver({ adminSocket, clock: systemClock }),
    format: "onnx",
    goodPath: at("good.onnx"),
    brokenPath: at("broken.onnx"),
    absentPath: at("absent.onnx"),
    revive,
    async kill(): Promise<void> {
      signal("SIGKILL");
      await server.stop();
    },
    hang: () => signal("SIGSTOP"),
    resume: () => signal("SIGCONT"),
    async forget(serverName): Promise<void> {
      const client = new Client("http://localhost", { socketPath: adminSocket });
      const path = `/v2/repository/models/${encodeURIComponent(serverName)}/unload`;
      const answer = await client.request({ method: "POST", path });
      await answer.body.dump();
      await client.destroy();
    },
    async [Symbol.asyncDispose](): Promise<void> {
      await server.stop();
      await folder[Symbol.asyncDispose]();
    },
  };
}

describeDriver("the built-in model server", openHarness);

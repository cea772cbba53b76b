// Owns model servers that forget: behind the adapter's back, on the socket where the adapter itself unloads.
import { join } from "node:path";
import { Client } from "undici";
import type { TestFleet } from "./fleet.ts";

/** On every pod, whether or not it holds the model. */
export async function forgetModel(fleet: Pick<TestFleet, "runFolder">, model: string, pods = 2): Promise<void> {
  for (let pod = 0; pod < pods; pod++) {
    const client = new Client("http://pod", { socketPath: join(fleet.runFolder, `pod-${pod}.sock`) });
    try {
      const { body } = await client.request({ method: "POST", path: `/v2/repository/models/${model}/unload` });
      await body.dump();
    } finally {
      await client.destroy();
    }
  }
}

// Owns how the Envoy beside a gateway is reached: by its admin interface, a unix socket that nobody else sees.
import { Client } from "undici";

const answerMs = 1_000;

export function openEnvoyAdmin(adminSocket: string): Client {
  return new Client("http://envoy", { socketPath: adminSocket, headersTimeout: answerMs, bodyTimeout: answerMs });
}

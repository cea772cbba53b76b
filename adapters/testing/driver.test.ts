// Holds the scripted model server to the contract of the real ones.
import { systemClock } from "#platform/clock.ts";
import { describeDriver } from "../drivers/suite.ts";
import { absentPath, brokenPath, createFakeServer } from "./driver.ts";

describeDriver("the scripted model server", async () => {
  const server = createFakeServer();
  return {
    openDriver: () => server.openDriver(systemClock),
    format: "fake",
    goodPath: "/fake/good",
    brokenPath,
    absentPath,
    slowMs: 500,
    kill: async () => server.kill(),
    revive: async () => server.revive(),
    hang: () => server.hang(),
    resume: () => server.resume(),
    forget: async (serverName) => void server.held.delete(serverName),
    [Symbol.asyncDispose]: async () => undefined,
  };
});

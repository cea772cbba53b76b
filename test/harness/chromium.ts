// Owns the browser of tests: Debian's Chromium, installed when it is missing, without a word to the outside.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { type Browser, chromium } from "playwright-core";

const binary = process.env["WARMPATH_CHROMIUM"] ?? "/usr/bin/chromium";

export async function openBrowser(): Promise<Browser> {
  if (!existsSync(binary)) {
    for (const args of [["update"], ["install", "-y", "--no-install-recommends", "chromium"]]) {
      spawnSync("apt-get", args, { stdio: "ignore", env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" } });
    }
  }
  if (!existsSync(binary)) throw new Error(`there is no ${binary}: install Chromium, or name it with WARMPATH_CHROMIUM`);
  return await chromium.launch({
    executablePath: binary,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

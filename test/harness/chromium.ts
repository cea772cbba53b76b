// Owns the browser of tests: Debian's Chromium, installed when it is missing, without a word to the outside.
import { existsSync } from "node:fs";
import { type Browser, chromium } from "playwright-core";
import { installPackage } from "./debian.ts";
import { run } from "./kept.ts";

const named = process.env["WARMPATH_CHROMIUM"];
const binary = named ?? "/usr/bin/chromium";

export async function openBrowser(): Promise<Browser> {
  if (named === undefined && !(await isInstalled())) await installPackage("chromium");
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

/** Whether it is there and complete: the file alone is there while its package is still being unpacked. */
async function isInstalled(): Promise<boolean> {
  if (!existsSync(binary)) return false;
  const state = await run("dpkg-query", ["--show", "--showformat=${db:Status-Status}", "chromium"], { mayFail: true }).catch(
    () => "",
  );
  return state === "installed" || state === "";
}

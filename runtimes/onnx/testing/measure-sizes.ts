// Owns the measurement behind sizes.ts: resident bytes a session, over many sessions, in a process of its own.
// Arguments: model file, number of sessions. Prints one JSON object. Start it with MALLOC_TRIM_THRESHOLD_=131072.
import { scanModelFile } from "../scan.ts";
import { openSession } from "../session.ts";

const [path = "", count = "200"] = process.argv.slice(2);
const sessions: unknown[] = [];
const add = async (): Promise<void> => {
  const session = await openSession(path);
  if ("kind" in session) throw new Error(session.message);
  sessions.push(session);
};
for (let i = 0; i < 20; i++) await add();
globalThis.gc?.();
const before = process.memoryUsage.rss();
const startMs = performance.now();
for (let i = 0; i < Number(count); i++) await add();
const createMs = (performance.now() - startMs) / Number(count);
globalThis.gc?.();
const bytesPerSession = (process.memoryUsage.rss() - before) / Number(count);
process.stdout.write(
  `${JSON.stringify({ ...(await scanModelFile(path)), bytesPerSession, createMs, sessions: sessions.length })}\n`,
);

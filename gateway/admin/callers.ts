// Owns who may call the management API: tokens, of which only hashes are known here, with a role each, and the record of
// what they changed. Health is open to everybody, and so is the page itself, which holds nothing: what it shows comes from
// calls that need a token.
import { createHash } from "node:crypto";
import type { FastifyInstance } from "fastify";
import { z } from "zod";
import type { Log } from "#platform/log.ts";
import { parseOptionFile, readOptionFile } from "#platform/optionfile.ts";
import { refuse } from "./route.ts";
import { findCaller } from "./session.ts";

export interface Caller {
  readonly name: string;
  /** `read`: look, change nothing. `none`: known, and may do neither. */
  readonly role: "read" | "write" | "none";
}

export interface Callers {
  /** Undefined: nobody that is known. */
  find(token: string): Promise<Caller | undefined>;
}

const schema = z.strictObject({
  tokens: z
    .array(
      z.strictObject({
        name: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, { error: "must be a plain name" }),
        role: z.enum(["read", "write"]),
        sha256: z.string().regex(/^[0-9a-f]{64}$/, { error: "must be the SHA-256 of the token, in hex" }),
      }),
    )
    .min(1)
    .max(1_000),
});

/** `tokens: [{ name, role, sha256 }]` in YAML or JSON. Throws a StartupError that says what is wrong. */
export function parseCallers(text: string): Callers {
  const { tokens } = parseOptionFile(schema, text, "--admin-tokens");
  const byHash = new Map(tokens.map(({ name, role, sha256 }) => [sha256, { name, role }]));
  return { find: async (token) => byHash.get(createHash("sha256").update(token).digest("hex")) };
}

export async function readCallers(file: string): Promise<Callers> {
  return parseCallers(await readOptionFile(file, "--admin-tokens"));
}

export function mayCall({ role }: Caller, wanted: "read" | "write"): boolean {
  return role === "write" || role === wanted;
}

export function whyNot({ name, role }: Caller): string {
  return role === "none"
    ? `${name} may neither look nor change: its account needs the verb get, or update, of managements.warmpath.dev`
    : `${name} may look, not change`;
}

declare module "fastify" {
  interface FastifyContextConfig {
    /** Everybody who reaches the port may ask it. */
    readonly isOpen?: boolean;
  }
}

/** Whatever a route does not open itself is closed, and so is what there is no route for: paths are never compared here. */
export function guard(app: FastifyInstance, callers: Callers, log: Log): void {
  app.addHook("onRequest", async (request, reply) => {
    if (request.routeOptions.config.isOpen === true) return undefined;
    const caller = await findCaller(request.headers, callers);
    const writes = request.method !== "GET" && request.method !== "HEAD";
    if (caller !== undefined && mayCall(caller, writes ? "write" : "read")) {
      if (writes) {
        // What was asked, and what came of it: the record of changes.
        reply.raw.once("finish", () =>
          log.info("a management change", {
            caller: caller.name,
            method: request.method,
            path: request.url.slice(0, 300),
            status: reply.statusCode,
          }),
        );
      }
      return undefined;
    }
    const { status, body } =
      caller === undefined
        ? refuse("unauthenticated", "the management API needs a token: Authorization: Bearer TOKEN")
        : refuse("permission-denied", whyNot(caller));
    return reply.code(status).header("www-authenticate", "Bearer").send(body);
  });
}

// Owns the file that says how callers prove who they are (YAML or JSON), for Envoy's configuration and for the gateway.
import { resolve } from "node:path";
import { z } from "zod";
import { parseOptionFile, readOptionFile } from "#platform/optionfile.ts";
import type { AuthOptions, Jwks } from "./auth.ts";

const systemAuthorities = "/etc/ssl/certs/ca-certificates.crt";

const jwks = z
  .union(
    [
      z.strictObject({ file: z.string().min(1) }),
      z.strictObject({
        uri: z.url({ protocol: /^https?$/, error: "must be an http or https address" }),
        cacheSeconds: z.int().min(1).max(86_400).default(300),
        caFile: z.string().min(1).default(systemAuthorities),
      }),
    ],
    { error: "must have a file, or a uri" },
  )
  .transform(
    (given): Jwks =>
      "file" in given
        ? { kind: "file", file: resolve(given.file) }
        : { kind: "uri", uri: new URL(given.uri), cacheSeconds: given.cacheSeconds, caFile: resolve(given.caFile) },
  );

const schema = z.strictObject({
  jwt: z
    .array(
      z.strictObject({
        name: z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/, { error: "must be a plain lower-case name" }),
        issuer: z.string().min(1).max(1_000),
        audiences: z
          .array(z.string().min(1))
          .min(1, { error: "must name at least one: a token for somebody else is none for us" }),
        jwks,
        principalClaim: z
          .string()
          .regex(/^[A-Za-z0-9_.-]{1,128}$/)
          .default("sub"),
        rememberTokens: z.int().min(0).max(100_000).default(0),
      }),
    )
    .max(32)
    .refine((issuers) => new Set(issuers.map(({ name }) => name)).size === issuers.length, { error: "names must differ" })
    .default([]),
  apiKeys: z.boolean().default(true),
  clientCertificates: z.enum(["dns", "uri"]).optional(),
});

/** Throws a StartupError that says what is wrong with which field. */
export function parseAuth(text: string): AuthOptions {
  const { jwt, apiKeys, clientCertificates } = parseOptionFile(schema, text, "--auth");
  return { jwt, apiKeys, clientCertificates };
}

export async function readAuthFile(file: string): Promise<AuthOptions> {
  return parseAuth(await readOptionFile(file, "--auth"));
}

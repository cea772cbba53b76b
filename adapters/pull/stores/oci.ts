// Owns artefacts in registries: files pushed as layers with titles, or an image with the model below /models.
// https://github.com/opencontainers/distribution-spec/blob/main/spec.md, https://distribution.github.io/distribution/spec/auth/token/
// Invariants: every manifest and layer is what its digest says; the user and password go to the registry that the entry
// names, and to the token server that this registry names over https or that is on the same host.
import { createHash } from "node:crypto";
import { z } from "zod";
import { parseJson } from "#platform/json.ts";
import type { ArchiveKind } from "../archive/kinds.ts";
import { baseName, parseRelativePath, showName } from "../paths.ts";
import type { Source } from "../settings/source.ts";
import { type Listing, maxFiles, type Reading, type Store, type StoredFile } from "../store.ts";
import { connectionError, PullError } from "../trouble.ts";
import { discardBody, expectStatus, readText, type WebAnswer, type WebClient } from "../web/client.ts";

type OciSource = Extract<Source, { readonly kind: "oci" }>;

const maxManifestBytes = 4 * 2 ** 20;
const maxIndexes = 3;
const digestText = z.string().regex(/^sha256:[0-9a-f]{64}$/);
const annotations = z.record(z.string(), z.string()).default({});
const layerSchema = z.object({ mediaType: z.string(), digest: digestText, size: z.int().nonnegative(), annotations });
const manifestSchema = z.object({ layers: z.array(layerSchema).min(1).max(maxFiles) });
const indexSchema = z.object({
  manifests: z
    .array(
      z.object({
        mediaType: z.string().default(""),
        digest: digestText,
        annotations,
        platform: z.object({ os: z.string(), architecture: z.string() }).partial().optional(),
      }),
    )
    .min(1),
});
const tokenSchema = z.object({ token: z.string().optional(), access_token: z.string().optional() });

const accepted = [
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.docker.distribution.manifest.v2+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
].join(", ");
const title = "org.opencontainers.image.title";
/** Where Docker's hub really is. */
const dockerHub = "registry-1.docker.io";

export function originOfRegistry(registry: string): string {
  const host = registry === "docker.io" || registry === "index.docker.io" ? dockerHub : registry;
  return `${isPlain(host) ? "http" : "https"}://${host}`;
}

export function createOciStore(source: OciSource, client: WebClient): Store {
  const { registry, repository, reference, entry } = source;
  const base = originOfRegistry(registry);
  const { host } = new URL(base);
  const what = showName(`oci://${registry}/${repository}${reference.includes(":") ? "@" : ":"}${reference}`);
  let token: string | undefined;

  const send = (url: string, headers: Readonly<Record<string, string>>, signal: AbortSignal): Promise<WebAnswer> => {
    const secretHeaders = token === undefined ? {} : { authorization: token };
    return client.send(url, { headers: { "accept-encoding": "identity", ...headers }, secretHeaders, signal });
  };

  /** A registry says with its 401 how it wants to be asked; a token that is over gets one as well. */
  const ask = async (path: string, headers: Readonly<Record<string, string>>, signal: AbortSignal): Promise<WebAnswer> => {
    const url = `${base}/v2/${repository}/${path}`;
    const first = await send(url, headers, signal);
    if (first.status !== 401) return first;
    const challenge = first.headers["www-authenticate"] ?? "";
    discardBody(first);
    token = await authorize(challenge, signal);
    return await send(url, headers, signal);
  };

  const basic = (): string | undefined =>
    entry?.username === undefined
      ? undefined
      : `Basic ${Buffer.from(`${entry.username}:${entry.password ?? ""}`).toString("base64")}`;

  const authorize = async (challenge: string, signal: AbortSignal): Promise<string | undefined> => {
    const credentials = basic();
    if (/^basic\b/i.test(challenge)) return credentials;
    const fields = new Map(
      Array.from(challenge.matchAll(/([a-z_]+)="([^"]*)"/gi), ([, name = "", value = ""]) => [name.toLowerCase(), value]),
    );
    const realm = fields.get("realm") ?? "";
    if (!/^bearer\b/i.test(challenge) || !URL.canParse(realm)) return credentials;
    const url = new URL(realm);
    const sameHost = url.host === host;
    if (url.protocol !== "https:" && !sameHost)
      throw new PullError("unsuitable", `the registry of ${what} sends to a token server that is not safe`);
    const service = fields.get("service");
    if (service !== undefined) url.searchParams.set("service", service);
    url.searchParams.set("scope", `repository:${repository}:pull`);
    const answer = await client.send(url.href, {
      secretHeaders: credentials === undefined ? {} : { authorization: credentials },
      signal,
    });
    await expectStatus(answer, [200], what);
    const parsed = tokenSchema.safeParse(parseJson(await readText(answer, maxManifestBytes, what, signal)));
    const given = parsed.data?.token ?? parsed.data?.access_token;
    return given === undefined ? credentials : `Bearer ${given}`;
  };

  const manifestOf = async (wanted: string, depth: number, signal: AbortSignal): Promise<z.output<typeof manifestSchema>> => {
    const answer = await ask(`manifests/${wanted}`, { accept: accepted }, signal);
    await expectStatus(answer, [200], what);
    const text = await readText(answer, maxManifestBytes, what, signal);
    if (wanted.startsWith("sha256:") && `sha256:${createHash("sha256").update(text).digest("hex")}` !== wanted) {
      throw new PullError("corrupt", `the manifest of ${what} does not have its digest`);
    }
    const json = parseJson(text);
    const index = indexSchema.safeParse(json);
    if (index.success) {
      const chosen = choosePlatform(index.data.manifests);
      if (chosen === undefined || depth >= maxIndexes) throw new PullError("unsuitable", `${what} has nothing for this platform`);
      return await manifestOf(chosen, depth + 1, signal);
    }
    const manifest = manifestSchema.safeParse(json);
    if (!manifest.success) throw new PullError("unsuitable", `${what} is no artefact with layers`);
    return manifest.data;
  };

  return {
    async list(signal): Promise<Listing> {
      const { layers } = await manifestOf(reference, 0, signal);
      const named = layers.filter((layer) => layer.annotations[title] !== undefined);
      return named.length > 0 ? listFiles(named, repository, what) : listImage(layers, repository, what);
    },
    async find(path, signal): Promise<StoredFile> {
      const { layers } = await manifestOf(reference, 0, signal);
      const found = layers.find((layer) => layer.annotations[title] === path);
      if (found === undefined) throw new PullError("absent", `there is no ${showName(path)} in ${what}`);
      return fileOf(found, path, what);
    },
    async read(file, fromByte, signal): Promise<Reading> {
      const answer = await ask(`blobs/${file.ref}`, fromByte === 0 ? {} : { range: `bytes=${fromByte}-` }, signal);
      await expectStatus(answer, [200, 206], file.what);
      const from = /^bytes (\d+)-/.exec(answer.headers["content-range"] ?? "")?.[1];
      if (fromByte > 0 && (answer.status !== 206 || Number(from) !== fromByte)) {
        discardBody(answer);
        throw new PullError("corrupt", `the registry does not give ${file.what} from byte ${fromByte} on`);
      }
      return { chunks: told(answer.body, file.what, signal) };
    },
  };
}

type Layer = z.output<typeof layerSchema>;

function fileOf({ digest, size }: Layer, path: string, what: string): StoredFile {
  return {
    path,
    ref: digest,
    what: showName(`${what} (${path})`),
    sizeBytes: size,
    version: digest,
    digest: { algorithm: "sha256", hex: digest.slice("sha256:".length) },
  };
}

/** Each layer is a file of its own; a folder among them is packed. */
function listFiles(layers: readonly Layer[], repository: string, what: string): Listing {
  const files = layers.map((layer) => {
    const parsed = parseRelativePath(layer.annotations[title] ?? "");
    if (parsed.kind === "refused") throw new PullError("unsuitable", parsed.reason);
    if (layer.annotations["io.deis.oras.content.unpack"] === "true") {
      throw new PullError(
        "unsuitable",
        `${what} holds a packed folder: push its files, or an image with the model below /models`,
      );
    }
    return fileOf(layer, parsed.path, what);
  });
  const [only] = files;
  return files.length === 1 && only !== undefined && !only.path.includes("/")
    ? { name: only.path, single: true, files }
    : { name: baseName(repository), single: false, files };
}

function listImage(layers: readonly Layer[], repository: string, what: string): Listing {
  const files = layers.map((layer, at) => ({
    ...fileOf(layer, `layer-${at}`, what),
    archive: archiveKind(layer.mediaType, what),
  }));
  return { name: baseName(repository), single: false, layers: true, files };
}

function archiveKind(mediaType: string, what: string): ArchiveKind {
  if (/[.+]gzip$/.test(mediaType)) return "tgz";
  if (mediaType.endsWith("+zstd")) return "tzst";
  if (mediaType.endsWith(".tar")) return "tar";
  throw new PullError("unsuitable", `${what} has a layer of a kind that holds no files`);
}

/** The one for this machine, or the only one that is for no machine in particular. */
function choosePlatform(manifests: z.output<typeof indexSchema>["manifests"]): string | undefined {
  const architecture = process.arch === "x64" ? "amd64" : process.arch;
  // Signatures and attestations are in the index as well.
  const models = manifests.filter(({ platform }) => platform?.os !== "unknown");
  const suits = models.find(({ platform }) => platform?.os === "linux" && platform.architecture === architecture);
  return (suits ?? models.find(({ platform }) => platform === undefined) ?? (models.length === 1 ? models[0] : undefined))
    ?.digest;
}

/** As container tools do: a registry on this machine speaks plain HTTP. */
function isPlain(host: string): boolean {
  return /^(?:localhost|127(?:\.\d+){3}|\[::1\])(?::\d+)?$/.test(host);
}

async function* told(body: AsyncIterable<Uint8Array>, what: string, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch (error) {
    signal.throwIfAborted();
    throw connectionError(error, what);
  }
}

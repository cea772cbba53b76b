// Owns artefacts on a model hub in the manner of Hugging Face: all files of one commit of a repository.
// The revision is turned into a commit first, so that what is listed and what is fetched are one state. What a hub sends is
// checked by the SHA-256 of large files and the Git object id of the others.
import { z } from "zod";
import { parseJson } from "#platform/json.ts";
import { baseName, parseRelativePath, showName } from "../paths.ts";
import type { Source } from "../settings/source.ts";
import { type Digest, type Listing, maxFiles, type Reading, type Store, type StoredFile } from "../store.ts";
import { connectionError, PullError } from "../trouble.ts";
import { discardBody, expectStatus, readText, type WebAnswer, type WebClient } from "../web/client.ts";

type HubSource = Extract<Source, { readonly kind: "hf" }>;

export const usualHub = "https://huggingface.co";

const maxAnswerBytes = 32 * 2 ** 20;
const maxPages = 1_000;

const commitSchema = z.object({ sha: z.string().regex(/^[0-9a-f]{40}$/) });
const treeSchema = z.array(
  z.object({
    type: z.string(),
    path: z.string(),
    size: z.int().nonnegative().default(0),
    oid: z.string().optional(),
    lfs: z.object({ oid: z.string().regex(/^[0-9a-f]{64}$/), size: z.int().nonnegative() }).optional(),
  }),
);

export function createHubStore({ repository, revision, entry }: HubSource, client: WebClient): Store {
  const base = (entry?.endpoint ?? usualHub).replace(/\/+$/, "");
  const what = showName(`hf://${repository}:${revision}`);
  const secretHeaders = entry?.token === undefined ? {} : { authorization: `Bearer ${entry.token}` };
  const ask = async (url: string, headers: Readonly<Record<string, string>>, signal: AbortSignal): Promise<WebAnswer> =>
    await client.send(url, { headers: { "accept-encoding": "identity", ...headers }, secretHeaders, signal });

  const json = async <T>(
    url: string,
    schema: z.ZodType<T>,
    signal: AbortSignal,
  ): Promise<{ value: T; next: string | undefined }> => {
    const answer = await ask(url, {}, signal);
    await expectStatus(answer, [200], what);
    const parsed = schema.safeParse(parseJson(await readText(answer, maxAnswerBytes, what, signal)));
    if (!parsed.success) throw new PullError("corrupt", `the hub's answer about ${what} has a strange form`);
    return { value: parsed.data, next: nextPage(answer, url, base) };
  };

  const list = async (signal: AbortSignal): Promise<Listing> => {
    const { value } = await json(
      `${base}/api/models/${repository}/revision/${encodeURIComponent(revision)}`,
      commitSchema,
      signal,
    );
    const files: StoredFile[] = [];
    let url: string | undefined = `${base}/api/models/${repository}/tree/${value.sha}?recursive=true`;
    for (let page = 0; url !== undefined; page++) {
      if (page >= maxPages) throw new PullError("corrupt", `the hub's list of ${what} does not end`);
      const { value: entries, next }: { value: z.output<typeof treeSchema>; next: string | undefined } = await json(
        url,
        treeSchema,
        signal,
      );
      for (const each of entries) {
        if (each.type !== "file") continue;
        const parsed = parseRelativePath(each.path);
        if (parsed.kind === "refused" || parsed.path !== each.path)
          throw new PullError("unsuitable", `${what} has a file of an odd name`);
        if (files.length >= maxFiles) throw new PullError("unsuitable", `${what} has more than ${maxFiles} files`);
        const digest = digestOf(each);
        files.push({
          path: each.path,
          ref: `${base}/${repository}/resolve/${value.sha}/${each.path.split("/").map(encodeURIComponent).join("/")}`,
          what: showName(`hf://${repository}/${each.path}`),
          sizeBytes: each.lfs?.size ?? each.size,
          version: digest?.hex ?? value.sha,
          ...(digest === undefined ? {} : { digest }),
        });
      }
      url = next;
    }
    if (files.length === 0) throw new PullError("absent", `there is nothing at ${what}: the repository has no files`);
    return { name: baseName(repository), single: false, files };
  };

  return {
    list,
    async find(path, signal): Promise<StoredFile> {
      const found = (await list(signal)).files.find((file) => file.path === path);
      if (found === undefined) throw new PullError("absent", `there is nothing at ${what}/${showName(path)}`);
      return found;
    },
    async read(file, fromByte, signal): Promise<Reading> {
      const answer = await ask(file.ref, fromByte === 0 ? {} : { range: `bytes=${fromByte}-` }, signal);
      await expectStatus(answer, [200, 206], file.what);
      const from = /^bytes (\d+)-/.exec(answer.headers["content-range"] ?? "")?.[1];
      if (fromByte > 0 && (answer.status !== 206 || Number(from) !== fromByte)) {
        discardBody(answer);
        throw new PullError("corrupt", `the hub does not give ${file.what} from byte ${fromByte} on`);
      }
      return { chunks: told(answer.body, file.what, signal) };
    },
  };
}

async function* told(body: AsyncIterable<Uint8Array>, what: string, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch (error) {
    signal.throwIfAborted();
    throw connectionError(error, what);
  }
}

function digestOf({ lfs, oid }: z.output<typeof treeSchema>[number]): Digest | undefined {
  if (lfs !== undefined) return { algorithm: "sha256", hex: lfs.oid };
  return oid !== undefined && /^[0-9a-f]{40}$/.test(oid) ? { algorithm: "git-sha1", hex: oid } : undefined;
}

/** The hub names it itself: it must be the hub's own. */
function nextPage(answer: WebAnswer, url: string, base: string): string | undefined {
  const link = /<([^<>]+)>;\s*rel="next"/.exec(answer.headers["link"] ?? "")?.[1];
  if (link === undefined) return undefined;
  const next = URL.canParse(link, url) ? new URL(link, url) : undefined;
  if (next?.origin !== new URL(base).origin) throw new PullError("corrupt", "the hub's list goes on elsewhere");
  return next.href;
}

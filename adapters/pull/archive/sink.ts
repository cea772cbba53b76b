// Owns what is taken out of an archive: each name checked, each file made anew, all within limits.
// Invariants: nothing is written outside of the folder; no link, device or directory of the archive's is ever followed,
// since only files and the folders for them are made; what a file unpacks to is counted as it comes, not as it is said.
import { createHash } from "node:crypto";
import { mkdir, open, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { parseRelativePath, showName } from "../paths.ts";
import type { Moved } from "../puller.ts";
import { maxFiles } from "../store.ts";
import { PullError } from "../trouble.ts";

export interface UnpackedFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly sha256: string;
}

export interface SinkOptions {
  /** There, and empty. */
  readonly folder: string;
  /** The archive, for people. */
  readonly what: string;
  readonly archiveBytes: number;
  /** Asks for bytes on the disk. */
  readonly grow: (bytes: number) => void;
  /** A later file takes the place of an earlier one, as in the layers of an image; otherwise twice the same name is refused. */
  readonly layers: boolean;
  /** Told of bytes as they come. */
  readonly moved?: Moved | undefined;
}

export interface Sink {
  /** Counts an entry of whatever kind. */
  count(): void;
  /** The path of a file to write; throws when it must not be. */
  parse(name: string): string;
  write(path: string, chunks: AsyncIterable<Uint8Array>): Promise<void>;
  /** Takes back a file, or what lies below a folder. */
  remove(path: string, onlyBelow: boolean): Promise<void>;
  files(): readonly UnpackedFile[];
}

const maxEntries = 4 * maxFiles;
/** What compresses better than this, and is larger than that, is made to do harm. */
const maxRatio = 200;
const ratioFromBytes = 256 * 2 ** 20;
const growBytes = 2 ** 20;

export function createSink({ folder, what, archiveBytes, grow, layers, moved }: SinkOptions): Sink {
  const files = new Map<string, UnpackedFile>();
  let entries = 0;
  let bytes = 0;
  let grownTo = 0;

  const refuse = (reason: string): PullError => new PullError("unsuitable", `the archive ${what} ${reason}`);

  return {
    count(): void {
      entries += 1;
      if (entries > maxEntries) throw refuse(`has more than ${maxEntries} entries`);
    },
    parse(name): string {
      const parsed = parseRelativePath(name);
      if (parsed.kind === "refused") throw refuse(`cannot be unpacked: ${parsed.reason}`);
      return parsed.path;
    },
    async write(path, chunks): Promise<void> {
      if (layers) await this.remove(path, false);
      if (files.size >= maxFiles) throw refuse(`has more than ${maxFiles} files`);
      const at = join(folder, path);
      const sha256 = createHash("sha256");
      let sizeBytes = 0;
      try {
        await mkdir(dirname(at), { recursive: true, mode: 0o700 });
        // Never onto what is there, whatever it is.
        await using handle = await open(at, "wx", 0o600);
        for await (const chunk of chunks) {
          sizeBytes += chunk.length;
          bytes += chunk.length;
          moved?.(chunk.length);
          if (bytes > ratioFromBytes && bytes > maxRatio * archiveBytes) {
            throw refuse(`unpacks to more than ${maxRatio} times its own size`);
          }
          if (bytes > grownTo) {
            const more = Math.max(growBytes, chunk.length);
            grow(more);
            grownTo += more;
          }
          sha256.update(chunk);
          await handle.appendFile(chunk);
        }
      } catch (error) {
        const code = error instanceof Error && "syscall" in error && "code" in error ? error.code : undefined;
        if (code === "EEXIST" || code === "ENOTDIR" || code === "EISDIR") throw refuse(`has ${showName(path)} twice`);
        if (code === "ENAMETOOLONG") throw refuse(`has names that are too long`);
        throw error;
      }
      files.set(path, { path, sizeBytes, sha256: sha256.digest("hex") });
    },
    async remove(path, onlyBelow): Promise<void> {
      if (!onlyBelow && files.delete(path)) await rm(join(folder, path), { force: true });
      const prefix = path === "" ? "" : `${path}/`;
      for (const known of Array.from(files.keys())) {
        if (!known.startsWith(prefix)) continue;
        files.delete(known);
        await rm(join(folder, known), { force: true });
      }
      if (!onlyBelow && path !== "") await rm(join(folder, path), { recursive: true, force: true });
    },
    files: () => [...files.values()],
  };
}

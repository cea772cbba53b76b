// Owns the reading of tar archives, plain or compressed.
import { createReadStream } from "node:fs";
import { type Readable, Transform } from "node:stream";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { extract } from "tar-stream";
import { showName } from "../paths.ts";
import { PullError } from "../trouble.ts";
import type { Sink } from "./sink.ts";

export type Compression = "none" | "gzip" | "zstd";

export interface TarOptions {
  readonly file: string;
  readonly compression: Compression;
  readonly what: string;
  readonly sink: Sink;
  /** Where an entry goes; undefined: it is left out. As it is when absent. */
  readonly select?: (name: string) => string | undefined;
  /** Entries named `.wh.NAME` take NAME away, as in the layers of an image. */
  readonly whiteouts: boolean;
  readonly signal: AbortSignal;
}

const opaque = ".wh..wh..opq";

export async function unpackTar({ file, compression, what, sink, select, whiteouts, signal }: TarOptions): Promise<void> {
  const source = createReadStream(file, { highWaterMark: 2 ** 18 });
  const plain = decompress(compression);
  const tar = extract({ allowUnknownFormat: false, filenameEncoding: "utf-8" } as Parameters<typeof extract>[0]);
  const streams: readonly Readable[] = plain === undefined ? [source] : [source, plain];
  const fail = (error: unknown): void => {
    const reason = error instanceof Error ? error : new Error(String(error));
    tar.destroy(reason);
    for (const stream of streams) stream.destroy();
  };
  for (const stream of streams) stream.on("error", fail);
  const onAbort = (): void => fail(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    signal.throwIfAborted();
    (plain === undefined ? source : source.pipe(plain)).pipe(tar);
    for await (const entry of tar) {
      sink.count();
      const name = select === undefined ? entry.header.name : select(entry.header.name);
      const { type } = entry.header;
      if (name === undefined || type === "directory" || /^(?:\.\/?)?$/.test(name)) {
        entry.resume();
        continue;
      }
      const hidden = whiteouts ? whiteoutOf(name) : undefined;
      if (hidden !== undefined) {
        entry.resume();
        await sink.remove(hidden.path === "" ? "" : sink.parse(hidden.path), hidden.below);
        continue;
      }
      if (type !== "file" && type !== "contiguous-file") {
        throw new PullError(
          "unsuitable",
          `the archive ${what} has ${showName(name)}, which is no file but a ${type ?? "thing unknown"}`,
        );
      }
      await sink.write(sink.parse(name), entry as AsyncIterable<Uint8Array>);
    }
  } catch (error) {
    fail(error);
    signal.throwIfAborted();
    if (error instanceof PullError || isOfDisk(error)) throw error;
    throw new PullError("unsuitable", `the archive ${what} is broken`, { cause: error });
  } finally {
    signal.removeEventListener("abort", onAbort);
    for (const stream of streams) stream.destroy();
  }
}

function decompress(compression: Compression): Transform | undefined {
  switch (compression) {
    case "none":
      return undefined;
    case "gzip":
      return createGunzip();
    case "zstd":
      return createZstdDecompress();
  }
}

/** What an entry takes away: a path, or only what lies below it. */
function whiteoutOf(name: string): { readonly path: string; readonly below: boolean } | undefined {
  const parts = name.split("/");
  const last = parts.at(-1) ?? "";
  if (!last.startsWith(".wh.")) return undefined;
  const folder = parts.slice(0, -1);
  return last === opaque
    ? { path: folder.join("/"), below: true }
    : { path: [...folder, last.slice(".wh.".length)].join("/"), below: false };
}

export function isOfDisk(error: unknown): boolean {
  return error instanceof Error && "syscall" in error;
}

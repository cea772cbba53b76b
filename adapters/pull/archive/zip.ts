// Owns the reading of zip archives, by their central directory alone.
import { openPromise } from "yauzl";
import { showName } from "../paths.ts";
import { PullError } from "../trouble.ts";
import type { Sink } from "./sink.ts";
import { isOfDisk } from "./tar.ts";

export interface ZipOptions {
  readonly file: string;
  readonly what: string;
  readonly sink: Sink;
  readonly signal: AbortSignal;
}

const fileTypeMask = 0o170000;
const regularFile = 0o100000;

export async function unpackZip({ file, what, sink, signal }: ZipOptions): Promise<void> {
  const refuse = (reason: string): PullError => new PullError("unsuitable", `the archive ${what} ${reason}`);
  try {
    const zip = await openPromise(file, { lazyEntries: true, autoClose: false, strictFileNames: true, validateEntrySizes: true });
    try {
      for await (const entry of zip.eachEntry()) {
        signal.throwIfAborted();
        sink.count();
        if (entry.fileName.endsWith("/")) continue;
        const type = (entry.externalFileAttributes >>> 16) & fileTypeMask;
        // Archives made elsewhere than on Unix tell no type.
        if (type !== 0 && type !== regularFile)
          throw refuse(`has ${showName(entry.fileName)}, which is no file but a link or device`);
        if ((entry.generalPurposeBitFlag & 1) !== 0) throw refuse("is encrypted");
        const path = sink.parse(entry.fileName);
        const stream = await zip.openReadStreamPromise(entry);
        const onAbort = (): void => void stream.destroy(signal.reason);
        signal.addEventListener("abort", onAbort, { once: true });
        try {
          await sink.write(path, stream);
        } finally {
          signal.removeEventListener("abort", onAbort);
          stream.destroy();
        }
      }
    } finally {
      zip.close();
    }
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof PullError || isOfDisk(error)) throw error;
    throw refuse("is broken, or has names that it must not have");
  }
}

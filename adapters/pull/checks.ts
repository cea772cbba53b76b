// Owns the making of a digest of the kind that a store tells, beside the SHA-256 that is made of every file.
import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import type { Digest, StoredFile } from "./store.ts";

export interface Check {
  update(chunk: Uint8Array): void;
  hex(): string;
}

/** Undefined: no other than the SHA-256 is needed. */
export function createCheck(digest: Digest | undefined, { sizeBytes }: Pick<StoredFile, "sizeBytes">): Check | undefined {
  switch (digest?.algorithm) {
    case undefined:
    case "sha256":
      return undefined;
    case "md5":
    case "sha1":
      return hashed(digest.algorithm);
    case "git-sha1": {
      const check = hashed("sha1");
      check.update(Buffer.from(`blob ${sizeBytes ?? 0}\0`));
      return check;
    }
    case "crc32": {
      let value = 0;
      return {
        update(chunk): void {
          value = crc32(chunk, value);
        },
        hex: () => value.toString(16).padStart(8, "0"),
      };
    }
  }
}

function hashed(algorithm: "md5" | "sha1"): Check {
  const hash = createHash(algorithm);
  return { update: (chunk) => void hash.update(chunk), hex: () => hash.digest("hex") };
}

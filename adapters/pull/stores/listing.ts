// Owns how the objects of a bucket become an artefact: the object of that very name, or all that lie below it.
import { archiveOf } from "../archive/kinds.ts";
import { baseName, parseRelativePath } from "../paths.ts";
import { type Listing, maxFiles, type StoredFile } from "../store.ts";
import { PullError } from "../trouble.ts";

/** What a store tells of an object. */
export type Listed = Pick<StoredFile, "ref" | "what" | "sizeBytes" | "version" | "digest">;

/** A single object is the artefact, or the archive of it. */
function listSingle(path: string, object: Listed): Listing {
  const name = baseName(path);
  const archive = archiveOf(name);
  return archive === undefined
    ? { name, single: true, files: [{ ...object, path: name }] }
    : { name: archive.stem, single: false, files: [{ ...object, path: name, archive: archive.kind }] };
}

/** The object of that very name if there is one, else what lies below it; an empty path is the whole bucket. */
export async function listEither(
  path: string,
  head: (path: string, signal: AbortSignal) => Promise<Listed>,
  folder: (signal: AbortSignal) => Promise<Listing>,
  signal: AbortSignal,
): Promise<Listing> {
  if (path === "") return await folder(signal);
  try {
    return listSingle(path, await head(path, signal));
  } catch (error) {
    // A store that hides what is not there says 403 as well; its list says more, and why.
    if (!(error instanceof PullError) || (error.trouble !== "absent" && error.trouble !== "denied")) throw error;
    return await folder(signal);
  }
}

export interface FolderListing {
  /** One more object, whatever lies between it and the prefix. */
  add(object: Listed): void;
  end(): Listing;
}

/** The objects below a path; an empty path is the whole bucket. */
export function listFolder(path: string, what: string): FolderListing {
  const prefix = path === "" ? "" : `${path}/`;
  const files: StoredFile[] = [];
  return {
    add(object): void {
      if (!object.ref.startsWith(prefix)) throw new PullError("corrupt", `the store lists what does not lie below ${what}`);
      const inside = object.ref.slice(prefix.length);
      // Consoles make such objects to show a folder.
      if (inside === "" || inside.endsWith("/")) return;
      const parsed = parseRelativePath(inside);
      if (parsed.kind === "refused") throw new PullError("unsuitable", parsed.reason);
      if (parsed.path !== inside) throw new PullError("unsuitable", `there is an object below ${what} that begins with ./`);
      if (files.length >= maxFiles) throw new PullError("unsuitable", `there are more than ${maxFiles} objects below ${what}`);
      files.push({ ...object, path: inside });
    },
    end(): Listing {
      if (files.length === 0) throw new PullError("absent", `there is nothing at ${what}: neither an object nor a folder`);
      return { name: baseName(path), single: false, files };
    },
  };
}

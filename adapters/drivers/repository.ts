// Owns a folder that the model server reads, with a tree in it for each copy: read the artefact, lay it out, make the tree.
// Invariant: what the artefact's author can do wrong is a failure of the model; what the disk does wrong, of the pod.
import { mkdir, readFile, realpath, rm, stat } from "node:fs/promises";
import { dirname, join, sep } from "node:path";
import { errorMessage } from "#core/errors.ts";
import { checkPlan, type LayoutRequest, type Plan } from "../layout/plan.ts";
import { makeTree, readArtefact } from "../layout/tree.ts";
import type { Failure, LoadRequest } from "./driver.ts";
import { fileName } from "./record.ts";

export interface Repository {
  /** Absolute, as the model server sees it too. */
  readonly folder: string;
  /** Where the tree of this copy is. */
  place(serverName: string): string;
  make(request: LoadRequest, layout: Layout): Promise<{ readonly kind: "ok"; readonly folder: string } | Failure>;
  remove(serverName: string): Promise<void>;
}

export interface Layout {
  /** Pure. */
  readonly plan: (request: LayoutRequest, folder: string) => Plan;
  /** Files that the plan wants to read. */
  readonly isText: (file: string) => boolean;
}

export interface RepositoryOptions {
  readonly folder: string;
  /** The model server takes the folder's name for the model's: no other will do, however long it is. */
  readonly namesMatter: boolean;
}

const maxSchemaBytes = 2 ** 20;

export function createRepository({ folder, namesMatter }: RepositoryOptions): Repository {
  const place = (serverName: string): string => join(folder, namesMatter ? serverName : fileName(serverName));
  return {
    folder,
    place,
    async make(request, layout): Promise<{ readonly kind: "ok"; readonly folder: string } | Failure> {
      const { serverName, path, signal } = request;
      const to = place(serverName);
      try {
        const read = await readLayoutRequest(request, layout);
        if ("reason" in read) return failed("model", read.reason);
        const plan = checkPlan(layout.plan(read, to));
        if (plan.kind === "refused") return failed("model", plan.reason);
        await mkdir(folder, { recursive: true });
        await makeTree(plan, path, to, signal);
        return { kind: "ok", folder: to };
      } catch (error) {
        signal.throwIfAborted();
        return classifyLayout(error, path);
      }
    },
    async remove(serverName): Promise<void> {
      await rm(place(serverName), { recursive: true, force: true });
    },
  };
}

export async function readLayoutRequest(
  { path, format, schemaPath, signal }: LoadRequest,
  { isText }: Pick<Layout, "isText">,
): Promise<LayoutRequest | { readonly reason: string }> {
  const read = await readArtefact(path, (file) => file === schemaPath || isText(file), signal);
  if (read.kind === "refused") return read;
  const { artefact } = read;
  if (schemaPath === undefined) return { artefact, format };
  // The schema of a single file lies beside it.
  const beside = artefact.kind === "file" ? await readBeside(path, schemaPath) : undefined;
  const texts = beside === undefined ? artefact.texts : new Map([...artefact.texts, [schemaPath, beside]]);
  return { artefact: { ...artefact, texts }, format, schemaPath };
}

async function readBeside(path: string, schemaPath: string): Promise<string | undefined> {
  const folder = await realpath(dirname(path));
  const file = await realpath(join(folder, schemaPath)).catch(() => undefined);
  if (file === undefined || !file.startsWith(folder.endsWith(sep) ? folder : folder + sep)) return undefined;
  const { size } = await stat(file);
  return size > maxSchemaBytes ? undefined : await readFile(file, "utf8");
}

export function classifyLayout(error: unknown, path: string): Failure {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  if (code === "ENOENT" || code === "ENOTDIR") {
    const gone = error instanceof Error && "path" in error && String(error.path).startsWith(path);
    if (gone) return failed("storage", "the artefact is not on the disk any more");
  }
  if (code === "ENAMETOOLONG") return failed("model", "a name in it is too long for the disk");
  if (code === "ENOSPC" || code === "EDQUOT") return failed("pod", "there is no space left on the disk of models");
  return failed("pod", `the model could not be laid out: ${errorMessage(error)}`);
}

function failed(failure: Failure["failure"], reason: string): Failure {
  return { kind: "failed", failure, reason };
}

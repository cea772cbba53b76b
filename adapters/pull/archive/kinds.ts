// Owns which names are archives.
const suffixes = [
  [".tar", "tar"],
  [".tar.gz", "tgz"],
  [".tgz", "tgz"],
  [".tar.zst", "tzst"],
  [".zip", "zip"],
] as const;

export type ArchiveKind = (typeof suffixes)[number][1];

/** What kind of archive a file of this name is, and the name without that; undefined for any other file. */
export function archiveOf(name: string): { readonly kind: ArchiveKind; readonly stem: string } | undefined {
  const lower = name.toLowerCase();
  for (const [suffix, kind] of suffixes) {
    if (lower.endsWith(suffix) && lower.length > suffix.length) return { kind, stem: name.slice(0, -suffix.length) };
  }
  return undefined;
}

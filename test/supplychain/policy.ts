// Owns which licences may be among what Warmpath is made of. Warmpath is under Apache-2.0 and is given away as a whole: what is
// shipped with it must let that happen on the same terms. What only builds and tests it is not given away, so it may ask for
// more, as long as that is of files that stay as they are.

/** Expressions of SPDX: identifiers, AND, OR, parentheses. Undefined: it is none. */
export function identifiersNeeded(expression: string, accepts: (identifier: string) => boolean): boolean | undefined {
  const words = expression.match(/[()]|[A-Za-z0-9.+-]+/g) ?? [];
  let at = 0;
  const atom = (): boolean | undefined => {
    const word = words[at++];
    if (word === undefined || word === ")" || word === "AND" || word === "OR") return undefined;
    if (word !== "(") return accepts(word);
    const inside = any();
    return words[at++] === ")" ? inside : undefined;
  };
  const all = (): boolean | undefined => {
    let value = atom();
    while (words[at] === "AND") {
      at += 1;
      const next = atom();
      value = value === undefined || next === undefined ? undefined : value && next;
    }
    return value;
  };
  const any = (): boolean | undefined => {
    let value = all();
    while (words[at] === "OR") {
      at += 1;
      const next = all();
      value = value === undefined || next === undefined ? undefined : value || next;
    }
    return value;
  };
  const value = any();
  return at === words.length ? value : undefined;
}

const permissive: ReadonlySet<string> = new Set([
  "0BSD",
  "Apache-2.0",
  "BSD-2-Clause",
  "BSD-3-Clause",
  "BlueOak-1.0.0",
  "CC0-1.0",
  "CNRI-Python",
  "ISC",
  "MIT",
  "MIT-0",
  "MIT-CMU",
  "PSF-2.0",
  "Python-2.0",
  "Unlicense",
  "ZPL-2.1",
  "Zlib",
]);

/** Of files that nobody here changes or gives away. */
const ofTools: ReadonlySet<string> = new Set(["MPL-2.0", "LGPL-3.0-only", "GPL-2.0-only"]);

/** By name, with the reason. */
const exceptions: Readonly<Record<string, string>> = {
  "nvidia-nccl-cu12": "asked for by a wheel that tests install into an environment of their own; not used, not given away",
  // MIT, as its file says; it names that file by an address.
  "uri-templates": "under MIT, of which its metadata give an address instead of the name",
};

export function mayShip(licence: string): boolean {
  return identifiersNeeded(licence, (identifier) => permissive.has(identifier)) === true;
}

export function mayTest(name: string, licence: string): boolean {
  if (Object.hasOwn(exceptions, name)) return true;
  return identifiersNeeded(licence, (identifier) => permissive.has(identifier) || ofTools.has(identifier)) === true;
}

// Types of cli/setup/wheels.mjs, which is plain JavaScript because it runs before anything is installed.
declare module "*/setup/wheels.mjs" {
  interface Wheel {
    readonly name: string;
    readonly version: string;
    readonly sha256: string;
  }
  export const wheels: { readonly scikitLearn: Wheel; readonly magika: Wheel };
  /** Fetches a pinned wheel into the cache and returns a folder with the members, each under its new name. */
  export function unpackWheel(wheel: Wheel, members: Readonly<Record<string, string>>): string;
}

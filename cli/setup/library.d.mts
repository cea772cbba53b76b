/** Where the model library is, or will be. */
export declare function libraryFolder(): string;
export declare function libraryIsThere(folder: string): boolean;
export declare function buildLibrary(folder: string, report: (share: number) => void): Promise<void>;

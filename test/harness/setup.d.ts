// Types of what cli/setup prepares, which is plain JavaScript because it runs before anything is installed.
declare module "*/setup/envoy.mjs" {
  export function envoyBinary(): string;
  export function envoyIsThere(): boolean;
  export function fetchEnvoy(): Promise<void>;
}
declare module "*/setup/library.mjs" {
  export function libraryFolder(): string;
  export function libraryIsThere(folder: string): boolean;
  export function buildLibrary(folder: string, report: (share: number) => void): Promise<void>;
}

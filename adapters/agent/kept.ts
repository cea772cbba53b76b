// Owns artefacts that the model server may read again: each stays on the disk until its copy is unloaded, another one is
// loaded under its name, or the model server is lost.
export interface KeptArtefacts {
  keep(serverName: string, release: () => Promise<void>): Promise<void>;
  release(serverName: string): Promise<void>;
  readonly names: readonly string[];
}

export function createKeptArtefacts(): KeptArtefacts {
  const releases = new Map<string, () => Promise<void>>();
  return {
    async keep(serverName, release): Promise<void> {
      const before = releases.get(serverName);
      releases.set(serverName, release);
      await before?.();
    },
    async release(serverName): Promise<void> {
      const release = releases.get(serverName);
      releases.delete(serverName);
      await release?.();
    },
    get names(): readonly string[] {
      return Array.from(releases.keys());
    },
  };
}

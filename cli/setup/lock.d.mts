// Types of lock.mjs, which is plain JavaScript because it runs before anything is installed.
/** Waits until no other process holds the lock of this folder, then holds it; throws after the limit. */
export declare function holdLock(onWait?: (pid: string) => void, folder?: string, limitMs?: number): Promise<{ release(): void }>;

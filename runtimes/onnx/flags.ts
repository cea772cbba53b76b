// Owns the command line of the model server.
import { z } from "zod";
import { parseFlags, portOption, sizeBytesOption } from "#platform/config.ts";

export const usage = `usage: node runtimes/onnx/main.ts --rest-port PORT --grpc-port PORT --admin-socket PATH
         [--host 127.0.0.1] [--max-body-bytes 16Mi] [--exit-with-parent]
Port 0 takes a free one. Start it with MALLOC_TRIM_THRESHOLD_=131072 in its environment, so that the memory of an
unloaded model goes back to the system.`;

/** What the kernel allows. */
const maxSocketPathBytes = 107;

const schema = z.object({
  restPort: portOption,
  grpcPort: portOption,
  host: z.string().min(1).default("127.0.0.1"),
  adminSocket: z
    .string({ error: "must name the socket for management" })
    .min(1)
    .refine((path) => Buffer.byteLength(path) <= maxSocketPathBytes, {
      error: `must be at most ${maxSocketPathBytes} bytes long`,
    }),
  maxBodyBytes: sizeBytesOption.default(16 * 2 ** 20).pipe(
    z
      .int()
      .min(1_024)
      .max(2 ** 30),
  ),
  exitWithParent: z.boolean().default(false),
});

export type Flags = Readonly<z.output<typeof schema>>;

export function parseServerFlags(args: readonly string[]): Flags {
  return parseFlags(schema, args, usage);
}

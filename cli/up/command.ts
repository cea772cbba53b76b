// Owns the words of `warmpath up` on the command line.
import type { Command } from "commander";

export function addUp(
  program: Command,
  signal: AbortSignal,
  stack: AsyncDisposableStack,
  setExitCode: (code: number) => void,
): void {
  program
    .command("up")
    .description(
      "run everything on this machine: Envoy, a gateway, pods with the built-in ONNX model server, ten thousand models",
    )
    .helpOption("-h, --help", "say this")
    .option("--host <ADDRESS>", "address of the inference ports (default: 127.0.0.1)")
    .option("--http-port <PORT>", "REST inference (default: 8008)")
    .option("--grpc-port <PORT>", "gRPC inference (default: 8033)")
    .option("--admin-port <PORT>", "management API, on 127.0.0.1 only (default: 8080)")
    .option("--modelmesh-port <PORT>", "ModelMesh's management over gRPC, on 127.0.0.1 only; not served without")
    .option("--port-offset <N>", "added to all ports")
    .option("--gateways <N>", "number of gateways, each with its own Envoy and the next three ports (default: 1)")
    .option("--pods <N>", "number of pods (default: 2)")
    .option("--hit-processors <LIST>", "for Envoys and model servers alone, such as 0-2; without, all share all")
    .option("--hits-first", "Envoys and model servers run before all else, in real time; needs root or CAP_SYS_NICE")
    .option("--etcd", "keep the registry in an etcd that is started too, instead of a file")
    .option("--registry <ADDRESS>", "keep it in this etcd: etcd://HOST:PORT[,HOST:PORT]/PREFIX, etcds:// with TLS")
    .option("--etcd-ca <FILE>", "PEM authorities of its certificate")
    .option("--etcd-cert <FILE>", "PEM certificate that it wants of clients; with --etcd-key")
    .option("--etcd-key <FILE>", "PEM key of --etcd-cert")
    .option("--etcd-server-name <NAME>", "the name in its certificate, where it is not the one in the address")
    .option("--etcd-user <NAME>", "user; with --etcd-password-file")
    .option("--etcd-password-file <FILE>", "file that holds the password")
    .option("--capacity <SIZE>", "memory for models of each pod (default: 14Mi)")
    .option("--state <FOLDER>", "registry and logs; survives restarts (default: .warmpath)")
    .option("--storage-config <FOLDER>", "storage settings, a file for each entry, as the secret storage-config is mounted")
    .option("--for <DURATION>", "drive zipf-distributed traffic over all models, check every answer, then stop: 30s, 2m")
    .option("--concurrency <N>", "clients of --for (default: 16)")
    .option("--json", "with --for: the last line of the output is one JSON object")
    .option("--tls", "TLS on the inference ports and between processes, by an authority made in the state folder")
    .option("--tls-cert <FILE>", "PEM certificate of the inference ports, instead of an own one; with --tls-key")
    .option("--tls-key <FILE>", "PEM key of --tls-cert")
    .option("--plain-text", "with TLS: the same ports answer plain text, too, for clients that cannot be changed")
    .option("--client-ca <FILE>", "PEM authorities: clients must prove themselves to one of them")
    .option("--auth <FILE>", "how callers prove who they are (YAML); nobody has to without")
    .option("--otlp-endpoint <URL>", "collector of traces, such as http://localhost:4318; nothing is traced without it")
    .option("--otlp-protocol <NAME>", "http or grpc (default: grpc for port 4317, else http)")
    .option("--trace-share <SHARE>", "of requests without a trace context, the share that is traced: 0 to 1 (default: 1)")
    .option("--log-level <LEVEL>", "debug, info, warn or error (default: info)")
    .action(async (options: unknown) => {
      // Loaded only for this command: the others start sooner without it.
      const [{ parseUpOptions }, { runUp }] = await Promise.all([import("./options.ts"), import("./run.ts")]);
      setExitCode(await runUp(parseUpOptions(options, process.env), signal, stack));
    });
}

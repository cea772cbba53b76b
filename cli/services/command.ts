// Owns the words of the commands that run one process of a fleet (`warmpath gateway`, `adapter`, `controller`, `onnx`), and of
// the one that writes an Envoy's configuration. Their options are the services' own, each said there once; the services are loaded only
// when they are run.
import type { Command } from "commander";

interface Service {
  readonly name: string;
  readonly says: string;
  readonly about: string;
  readonly describe: () => Promise<string>;
  readonly run: (argv: readonly string[]) => Promise<void>;
}

export function addServices(program: Command, signal: AbortSignal, stack: AsyncDisposableStack): void {
  const services: readonly Service[] = [
    {
      name: "gateway",
      says: "run one gateway beside one Envoy",
      about:
        "Beside it runs an Envoy with the configuration of `warmpath envoy-bootstrap`. It prints one line of JSON when it is ready; SIGTERM makes it unready, lets waiting requests be answered, and ends it.",
      describe: async () => (await import("#gateway/run.ts")).describeGateway(),
      run: async (argv) => (await import("#gateway/run.ts")).runGateway(argv, signal, stack),
    },
    {
      name: "adapter",
      says: "run one adapter beside one model server",
      about: "It prints one line of JSON when gateways can reach it. SIGTERM ends it in order.",
      describe: async () => (await import("#adapters/run.ts")).describeAdapter(),
      run: async (argv) => (await import("#adapters/start.ts")).startAdapter(argv, signal, stack),
    },
    {
      name: "controller",
      says: "run the controller of a namespace of Kubernetes",
      about: "Of several one works, chosen by a Lease. It prints one line of JSON when it has begun; SIGTERM ends it in order.",
      describe: async () => (await import("#controller/run.ts")).describeController(),
      run: async (argv) => (await import("#controller/run.ts")).runControllerProcess(argv, signal, stack),
    },
    {
      name: "onnx",
      says: "run the built-in model server",
      about:
        "ONNX Runtime behind V2 and V1; an adapter beside it loads and unloads models. Start it with MALLOC_TRIM_THRESHOLD_=131072 in its environment, so that the memory of an unloaded model goes back to the system.",
      describe: async () => (await import("#runtimes/onnx/run.ts")).describeOnnx(),
      run: async (argv) => (await import("#runtimes/onnx/run.ts")).runOnnx(argv, signal, stack),
    },
    {
      name: "envoy-bootstrap",
      says: "write the configuration of the Envoy beside a gateway",
      about: "Envoy is then started with --config-path FOLDER/envoy.pb; all that changes comes from its gateway.",
      describe: async () => (await import("./bootstrap.ts")).describeBootstrap(),
      run: async (argv) => (await import("./bootstrap.ts")).runBootstrap(argv),
    },
  ];
  for (const service of services) add(program, service);
}

function add(program: Command, { name, says, about, describe, run }: Service): void {
  program
    .command(name)
    .description(says)
    .usage("[options]; --help lists them")
    .helpOption(false)
    .allowUnknownOption()
    .allowExcessArguments()
    .action(async (_options: unknown, command: Command) => {
      const argv = command.args;
      if (!argv.includes("--help") && !argv.includes("-h")) return await run(argv);
      const options = await describe();
      process.stdout.write(`Usage: warmpath ${name} [options]\n\n${says}\n\n${about}\n\nOptions:\n${options}\n`);
    });
}

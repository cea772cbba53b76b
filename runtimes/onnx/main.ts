// Runs the built-in model server.
import { runMain } from "#platform/lifecycle.ts";
import { runOnnx } from "./run.ts";

await runMain("onnx", (signal, stack) => runOnnx(process.argv.slice(2), signal, stack));

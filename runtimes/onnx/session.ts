// Owns ONNX Runtime: the only file that knows its package. One model file -> one session with typed inputs and outputs.
//
// What its binding does, and what follows (measured with 1.30):
// - Creating and running are synchronous: they stop the event loop of the thread they are called in. What takes long is
//   done in threads (threads/pool.ts), the rest one after the other in the main thread.
// - A session belongs to the thread that created it. A thread, or the process, that ends during a run is aborted.
// - More than one thread per operator means a thread per session: one thread each.
// - Arena and memory pattern keep ~40 kB more per session: both are off.
// - Released memory goes back to the system only when the process was started with MALLOC_TRIM_THRESHOLD_=131072.
// - Its errors are texts without a code. A failed run is the request's doing unless memory ran out: shapes and datatypes
//   of the whole graph were checked when the session was created.
// First: ONNX Runtime reads the environment when it is loaded.
import "./quiet.ts";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { type DatatypeInfo, type Elements, findDatatypeOfOrt } from "./datatypes.ts";
import { badRequest, Refusal } from "./refusal.ts";
import { createStopwatch } from "./threads/cputime.ts";

/** An input or output of a model; -1 stands for a dimension of any size. */
export interface Port {
  readonly name: string;
  readonly datatype: DatatypeInfo;
  /** Empty for a scalar, and for a tensor of unknown rank: ONNX Runtime tells both alike. */
  readonly shape: readonly number[];
}

export interface NamedTensor {
  readonly name: string;
  readonly datatype: DatatypeInfo;
  readonly shape: readonly number[];
  readonly elements: Elements;
}

/** Has `leave` called, once or never, when the client of a request has gone; that may be after its answer. */
export type WhenGone = (leave: () => void) => void;

export interface Session {
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  /** The named outputs, in that order. The memory of the inputs is given away. */
  run(
    inputs: readonly NamedTensor[],
    outputNames: readonly string[],
    whenGone?: WhenGone,
  ): Promise<readonly NamedTensor[] | Refusal>;
  /** Gives its memory back; must not be called twice, nor during a run. */
  release(): Promise<void>;
}

export interface LoadFailure {
  readonly kind: "model" | "storage" | "pod";
  readonly message: string;
}

const options: InferenceSession.SessionOptions = {
  executionProviders: ["cpu"],
  intraOpNumThreads: 1,
  interOpNumThreads: 1,
  enableCpuMemArena: false,
  enableMemPattern: false,
  logSeverityLevel: 3,
};

/** What a request did wrong is told to its client; it is no line in the log of the server. */
const runOptions: InferenceSession.RunOptions = { logSeverityLevel: 4 };

/** One for each thread: its runs are one after the other. */
const stopwatch = createStopwatch();

/**
 * Reads and prepares the model at `path`, which stops the event loop for as long as that takes. `ran` hears the processor time
 * of each run.
 */
export async function openSession(path: string, ran?: (cpuMs: number) => void): Promise<Session | LoadFailure> {
  let session: InferenceSession;
  try {
    session = await InferenceSession.create(path, options);
  } catch (error) {
    return classifyLoadError(error);
  }
  const inputs = session.inputMetadata.map(parsePort);
  const outputs = session.outputMetadata.map(parsePort);
  const failure = [...inputs, ...outputs].find((port) => "kind" in port);
  if (failure !== undefined) {
    await session.release();
    return failure;
  }
  return createSession(session, inputs.filter(isPort), outputs.filter(isPort), ran);
}

function isPort(port: Port | LoadFailure): port is Port {
  return !("kind" in port);
}

function parsePort(value: InferenceSession.ValueMetadata): Port | LoadFailure {
  const { name } = value;
  if (!value.isTensor)
    return {
      kind: "model",
      message: `${name} is no tensor; export the model so that it has only tensors (for scikit-learn: without ZipMap)`,
    };
  if (name === "__proto__") return { kind: "model", message: "a model may not have an input or output called __proto__" };
  const datatype = findDatatypeOfOrt(value.type);
  if (datatype === undefined)
    return { kind: "model", message: `${name} is of type ${value.type}, for which the V2 protocol has no datatype` };
  return { name, datatype, shape: value.shape.map((dim) => (typeof dim === "number" ? dim : -1)) };
}

function createSession(
  session: InferenceSession,
  inputs: readonly Port[],
  outputs: readonly Port[],
  ran: ((cpuMs: number) => void) | undefined,
): Session {
  const outputTypes = new Map(outputs.map((port) => [port.name, port.datatype]));
  return {
    inputs,
    outputs,
    async run(given, outputNames): Promise<readonly NamedTensor[] | Refusal> {
      const feeds: Record<string, Tensor> = {};
      for (const input of given) feeds[input.name] = buildTensor(input);
      let results: InferenceSession.ReturnType;
      // The binding runs in an immediate of its own, which comes right behind this one.
      const { starts } = stopwatch;
      if (ran !== undefined) setImmediate(stopwatch.start);
      try {
        results = await session.run(feeds, outputNames, runOptions);
      } catch (error) {
        return classifyRunError(error);
      } finally {
        // A run that was refused before it began was not timed.
        if (starts !== stopwatch.starts) ran?.(stopwatch.stop());
      }
      return outputNames.map((name) => {
        const tensor = results[name];
        const datatype = outputTypes.get(name);
        if (tensor === undefined || datatype === undefined) throw new Error(`the runtime gave no output ${name}`);
        return { name, datatype, shape: tensor.dims, elements: parseElements(tensor, datatype) };
      });
    },
    release: () => session.release(),
  };
}

function buildTensor({ datatype, elements, shape }: NamedTensor): Tensor {
  if (!(elements instanceof Float16Array)) return new Tensor(datatype.ort, elements, shape);
  // The binding wants FP16 as the 16 bits themselves, where the wrapper would make a Float16Array.
  const bits = new Uint16Array(elements.buffer, elements.byteOffset, elements.length);
  return Object.assign(new Tensor("uint16", bits, shape), { type: "float16" });
}

function parseElements(tensor: Tensor, datatype: DatatypeInfo): Elements {
  const data: unknown = tensor.data;
  const empty = datatype.family === "bytes" ? [] : undefined;
  if (Array.isArray(data)) return data.every((text) => typeof text === "string") ? data : (empty ?? []);
  if (isElements(data)) return data;
  throw new Error(`the runtime gave an unknown kind of data for ${datatype.name}`);
}

function isElements(data: unknown): data is Exclude<Elements, readonly string[]> {
  return ArrayBuffer.isView(data) && !(data instanceof DataView);
}

const outOfMemory = /bad_alloc|bad allocation|[Ff]ailed to allocate|out of memory/;

function classifyRunError(error: unknown): Refusal {
  const message = firstLine(error);
  if (outOfMemory.test(message)) return new Refusal("fault", `the model server ran out of memory: ${message}`);
  return badRequest(`the model cannot be run on these inputs: ${message}`);
}

function classifyLoadError(error: unknown): LoadFailure {
  const message = firstLine(error);
  if (outOfMemory.test(message)) return { kind: "pod", message };
  if (/File doesn't exist|[Ee]xternal data.*(?:not|missing)|cannot get file size/.test(message))
    return { kind: "storage", message };
  return { kind: "model", message };
}

/** The runtime's text without the places in its own source. */
function firstLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return (text.replaceAll(/\/onnxruntime_src\/\S+ /g, "").split("\n", 1)[0] ?? "").slice(0, 500);
}

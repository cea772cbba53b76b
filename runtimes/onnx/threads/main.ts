// Runs a model thread: the sessions that were opened in it, by number. Does what it is ordered, one order after the other.
// It is less urgent than the main thread, which answers the quick models and health checks on the same processors: Linux
// keeps this for each thread.
import { setPriority } from "node:os";
import { type MessagePort, parentPort } from "node:worker_threads";
import { errorMessage } from "#core/errors.ts";
import { Refusal } from "../refusal.ts";
import { openSession, type Session } from "../session.ts";
import { type Answer, memoryOf, type Order, receiveTensors, send } from "./messages.ts";

const niceness = 5;

const port = parentPort;
if (port === null) throw new Error("this is a thread of the model server, not a program");
try {
  setPriority(0, niceness);
} catch {
  // A sandbox that forbids it: then the threads share alike.
}

const sessions = new Map<number, Session>();
let cpuMs = 0;

async function obey(order: Order): Promise<Answer> {
  if (order.kind === "open") {
    const session = await openSession(order.path, (ms) => (cpuMs = ms));
    if ("kind" in session) return { kind: "failed", failure: session };
    sessions.set(order.session, session);
    return { kind: "opened", inputs: send(session.inputs), outputs: send(session.outputs) };
  }
  const session = sessions.get(order.session);
  if (session === undefined) return { kind: "fault", message: `there is no session ${order.session} in this thread` };
  if (order.kind === "release") {
    sessions.delete(order.session);
    await session.release();
    return { kind: "released" };
  }
  const outputs = await session.run(receiveTensors(order.inputs), order.outputNames);
  if (outputs instanceof Refusal) return { kind: "refused", refusal: outputs.kind, message: outputs.message, cpuMs };
  return { kind: "outputs", outputs: send(outputs), cpuMs };
}

async function answer(to: MessagePort, order: Order): Promise<void> {
  try {
    const answered = await obey(order);
    to.postMessage(answered, answered.kind === "outputs" ? memoryOf(answered.outputs) : []);
  } catch (error) {
    const fault: Answer = { kind: "fault", message: errorMessage(error) };
    to.postMessage(fault);
  }
}

port.on("message", (order: Order) => void answer(port, order));

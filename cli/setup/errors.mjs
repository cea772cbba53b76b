/** A set-up step that cannot go on; its message is one sentence that says what to do. */
export class SetupError extends Error {
  name = "SetupError";
}

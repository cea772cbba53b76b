// Owns how a command ends when it could not do what was asked: its exit code and one line, never a stack trace.

export const exitCodes = {
  done: { code: 0, says: "Done." },
  failed: { code: 1, says: "It was tried and failed, such as a load; or `doctor` found something wrong." },
  usage: { code: 2, says: "The command line is wrong." },
  "not-found": { code: 3, says: "There is no such model, revision or pod." },
  refused: { code: 4, says: "The gateway refused: a bad value, a conflict, a missing permission." },
  unreachable: { code: 5, says: "No gateway answers, or what it needs is away." },
} as const;

export class CommandError extends Error {
  override readonly name = "CommandError";
  readonly kind: Exclude<keyof typeof exitCodes, "done">;

  constructor(kind: CommandError["kind"], message: string) {
    super(message);
    this.kind = kind;
  }

  get exitCode(): number {
    return exitCodes[this.kind].code;
  }
}

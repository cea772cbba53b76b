// The first process of a container. The system ends no first process that has not asked for the signal, so one that is told
// to end while it still loads would be waited for until it is killed: it ends at once here. Afterwards main.ts sees to signals.
for (const signal of ["SIGTERM", "SIGINT"]) {
  process.on(signal, () => {
    if (process.listenerCount(signal) === 1) process.exit(143);
  });
}
await import("./main.ts");

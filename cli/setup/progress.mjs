// Owns what set-up shows, on standard error: one live line with a bar on a terminal, a line per step elsewhere, nothing
// when silent. A step that does not report its share is shown by its usual duration and never as complete before it is.

/** @typedef {{ name: string, seconds: number, run: (report: (share: number) => void) => Promise<unknown> }} Step */

const barWidth = 24;

/**
 * @param {Step[]} steps
 * @param {boolean} silent
 */
export function createProgress(steps, silent, out = process.stderr) {
  const live = !silent && out.isTTY;
  const whole = steps.reduce((sum, step) => sum + step.seconds, 0);
  let doneSeconds = 0;
  let timer;

  const draw = (step, startedMs, share) => {
    const elapsed = (performance.now() - startedMs) / 1_000;
    const guessed = share ?? 1 - Math.exp((-1.5 * elapsed) / step.seconds);
    const filled = Math.round(((doneSeconds + step.seconds * Math.min(guessed, 0.99)) / whole) * barWidth);
    const bar = "█".repeat(filled) + "░".repeat(barWidth - filled);
    out.write(`\r\u001B[K${`Setting up ${bar} ${step.name}, ${elapsed.toFixed(0)} s`.slice(0, (out.columns ?? 80) - 1)}`);
  };

  async function runStep(step, index) {
    const startedMs = performance.now();
    let share;
    if (live) {
      draw(step, startedMs, share);
      timer = setInterval(() => draw(step, startedMs, share), 100);
    } else if (!silent) out.write(`Setting up ${index + 1}/${steps.length}: ${step.name} ...\n`);
    await step.run((now) => {
      share = now;
    });
    clearInterval(timer);
    doneSeconds += step.seconds;
    if (!live && !silent)
      out.write(
        `Setting up ${index + 1}/${steps.length}: ${step.name} done in ${((performance.now() - startedMs) / 1_000).toFixed(1)} s\n`,
      );
  }

  return {
    async runAll() {
      for (const [index, step] of steps.entries()) await runStep(step, index);
    },
    /** Leaves no half line behind. */
    end() {
      clearInterval(timer);
      if (live) out.write("\r\u001B[K");
    },
  };
}

// Owns what counts: single tests, not the suites around them. A file that fails as a whole, such as one that cannot be
// loaded or holds no test, counts as one failed test.

export interface TestEvent {
  readonly name: string;
  readonly file: string;
  readonly passed: boolean;
  readonly skip?: boolean | string | undefined;
  readonly details: { readonly type?: string | undefined; readonly error?: unknown };
}

export interface TestResult {
  readonly file: string;
  readonly name: string;
  readonly kind: "passed" | "failed" | "skipped";
  readonly error?: unknown;
}

export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** The result of one event; undefined for suites. `isFile` tells the entry that stands for the whole file. */
export function resultOf(event: TestEvent, isFile: boolean): TestResult | undefined {
  const { name, file } = event;
  if (event.details.type === "suite") return undefined;
  if (isFile && event.passed) return { file, name: "(file)", kind: "failed", error: new Error("this file holds no test") };
  if (!event.passed) return { file, name: isFile ? "(file)" : name, kind: "failed", error: event.details.error };
  const skipped = event.skip !== undefined && event.skip !== false;
  return { file, name, kind: skipped ? "skipped" : "passed" };
}

export function countResults(results: readonly TestResult[]): Counts {
  const of = (kind: TestResult["kind"]): number => results.filter((result) => result.kind === kind).length;
  return { passed: of("passed"), failed: of("failed"), skipped: of("skipped") };
}

/** The last line of a run. */
export function summaryOf({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}

/** 0 only when something ran and nothing failed; on the build machine a skipped test is a failure too. */
export function exitCodeOf({ passed, failed, skipped }: Counts, onBuildMachine: boolean): 0 | 1 {
  return passed > 0 && failed === 0 && !(onBuildMachine && skipped > 0) ? 0 : 1;
}

/** The files whose path holds one of the filters, all without filters. In a stable order. */
export function chooseFiles(files: readonly string[], filters: readonly string[]): readonly string[] {
  return files
    .filter((file) => filters.length === 0 || filters.some((filter) => file.includes(filter.replace(/^\.\//, ""))))
    .toSorted();
}

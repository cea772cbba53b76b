// Owns the solution of A X = B for a symmetric positive definite A by Cholesky's method.

/**
 * Solves in place: `a` (size x size, row by row, lower triangle used) becomes its factor, `b` (size x width, row by row)
 * the solution. Throws a RangeError when `a` is not positive definite.
 */
export function solvePositive(a: Float64Array, b: Float64Array, size: number): void {
  factor(a, size);
  const width = b.length / size;
  for (let i = 0; i < size; i++) eliminate(a, b, { size, width, row: i, from: 0, to: i, lower: true });
  for (let i = size - 1; i >= 0; i--) eliminate(a, b, { size, width, row: i, from: i + 1, to: size, lower: false });
}

function factor(a: Float64Array, size: number): void {
  for (let i = 0; i < size; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = a[i * size + j] ?? 0;
      for (let k = 0; k < j; k++) sum -= (a[i * size + k] ?? 0) * (a[j * size + k] ?? 0);
      if (i !== j) a[i * size + j] = sum / (a[j * size + j] ?? 0);
      else if (sum > 0) a[i * size + i] = Math.sqrt(sum);
      else throw new RangeError("the matrix is not positive definite");
    }
  }
}

interface Elimination {
  readonly size: number;
  readonly width: number;
  readonly row: number;
  readonly from: number;
  readonly to: number;
  /** Rows before this one by the factor, or rows after it by its transpose. */
  readonly lower: boolean;
}

function eliminate(a: Float64Array, b: Float64Array, step: Elimination): void {
  const { size, width, row, from, to, lower } = step;
  const pivot = a[row * size + row] ?? 0;
  for (let k = from; k < to; k++) {
    const weight = a[lower ? row * size + k : k * size + row] ?? 0;
    for (let c = 0; c < width; c++) b[row * width + c] = (b[row * width + c] ?? 0) - weight * (b[k * width + c] ?? 0);
  }
  for (let c = 0; c < width; c++) b[row * width + c] = (b[row * width + c] ?? 0) / pivot;
}

export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

export function pack(
  sizes: readonly number[],
  column: { readonly width: number; readonly height: number; readonly bytes: number },
): readonly Box[];

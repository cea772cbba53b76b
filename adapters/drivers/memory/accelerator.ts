// Owns a second budget for what copies take on accelerators: as a share of the one budget that the holding keeps. Pure.
//
// A copy weighs what its scarcest memory asks: what it takes in the machine, or as large a part of the capacity as it takes of an
// accelerator's. While the weights together stay within the capacity, what copies take together stays within each budget,
// that of every device included. The price is room that is not used where some copies want the one memory and others the other.

export interface AcceleratorBudget {
  /** Of the machine's memory, for copies. */
  readonly capacityBytes: number;
  /** Of the memory of each accelerator, for copies. */
  readonly acceleratorBytes: number;
}

export interface MemoryUse {
  readonly device: { readonly kind: "machine" } | { readonly kind: "accelerator"; readonly id: string };
  readonly bytes: number;
}

export interface Weight {
  /** What it takes in the machine; undefined: nobody told. */
  readonly machineBytes: number | undefined;
  /** It weighs so much at least. */
  readonly leastBytes: number;
}

/** Without a budget for accelerators, all counts in the one that there is. */
export function weigh(uses: readonly MemoryUse[], budget: AcceleratorBudget | undefined): Weight {
  const onDevices = new Map<string, number>();
  let machineBytes = 0;
  for (const { device, bytes } of uses) {
    if (device.kind === "machine" || budget === undefined) machineBytes += bytes;
    else onDevices.set(device.id, (onDevices.get(device.id) ?? 0) + bytes);
  }
  const most = Math.max(0, ...onDevices.values());
  const leastBytes = budget === undefined ? 0 : Math.ceil((most / budget.acceleratorBytes) * budget.capacityBytes);
  return { machineBytes: machineBytes > 0 ? machineBytes : undefined, leastBytes };
}

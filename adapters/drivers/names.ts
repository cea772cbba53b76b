// Owns which drivers there are, and which formats each serves unless the pod says otherwise.

export const driverNames = ["onnx", "mlserver", "triton"] as const;

export type DriverName = (typeof driverNames)[number];

export const driverFormats: Readonly<Record<DriverName, readonly string[]>> = {
  onnx: ["onnx"],
  mlserver: ["sklearn", "xgboost", "lightgbm", "mlserver"],
  triton: ["onnx", "pytorch", "tensorflow", "keras", "tensorrt", "python", "triton"],
};

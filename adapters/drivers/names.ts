// Owns which drivers there are, and which formats each serves unless the pod says otherwise.

export const driverNames = ["onnx", "mlserver", "triton", "ovms", "torchserve", "openai-lora", "modelmesh"] as const;

export type DriverName = (typeof driverNames)[number];

export const driverFormats: Readonly<Record<DriverName, readonly string[]>> = {
  onnx: ["onnx"],
  mlserver: ["sklearn", "xgboost", "lightgbm", "mlserver"],
  triton: ["onnx", "pytorch", "tensorflow", "keras", "tensorrt", "python", "triton"],
  ovms: ["openvino_ir", "onnx", "tensorflow"],
  torchserve: ["pytorch-mar"],
  "openai-lora": ["lora"],
  // Only its maker knows: a pod that says none serves what its runtime is called.
  modelmesh: [],
};

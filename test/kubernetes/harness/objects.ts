// Owns the objects that tests apply, written from the documented fields.

/** For models in ONNX, as a user would write it for the built-in model server. */
export function onnxRuntime(
  name = "onnx",
  spec: Readonly<Record<string, unknown>> = {},
  annotations: Readonly<Record<string, string>> = {},
): string {
  return JSON.stringify({
    apiVersion: "serving.kserve.io/v1alpha1",
    kind: "ServingRuntime",
    metadata: { name, annotations },
    spec: {
      supportedModelFormats: [{ name: "onnx", version: "1", autoSelect: true }],
      protocolVersions: ["grpc-v2"],
      multiModel: true,
      grpcEndpoint: "port:8085",
      grpcDataEndpoint: "port:8001",
      httpDataEndpoint: "port:8002",
      builtInAdapter: { serverType: "onnx", memBufferBytes: 64 << 20 },
      containers: [
        {
          name: "onnx",
          image: "warmpath.test/warmpath:test",
          imagePullPolicy: "Never",
          args: [
            "onnx",
            "--host",
            "127.0.0.1",
            "--rest-port",
            "8002",
            "--grpc-port",
            "8001",
            "--admin-socket",
            "/run/warmpath/onnx.sock",
          ],
          resources: { requests: { cpu: "50m", memory: "192Mi" } },
        },
      ],
      ...spec,
    },
  });
}

export function buildInferenceService(
  name: string,
  storageUri: string,
  model: Readonly<Record<string, unknown>> = {},
  annotations: Readonly<Record<string, string>> = {},
): string {
  return JSON.stringify({
    apiVersion: "serving.kserve.io/v1beta1",
    kind: "InferenceService",
    metadata: { name, annotations: { "serving.kserve.io/deploymentMode": "ModelMesh", ...annotations } },
    spec: { predictor: { model: { modelFormat: { name: "onnx" }, storageUri, ...model } } },
  });
}

export function buildPredictor(name: string, spec: Readonly<Record<string, unknown>>): string {
  return JSON.stringify({
    apiVersion: "serving.kserve.io/v1alpha1",
    kind: "Predictor",
    metadata: { name },
    spec: { modelType: { name: "onnx" }, ...spec },
  });
}

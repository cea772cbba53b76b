// Owns what must be in the environment before ONNX Runtime is loaded: otherwise it tells its maker of its use, and leaves
// files in the temporary folder and in the user's cache.
process.env["ORT_DISABLE_TELEMETRY"] = "1";

// Makes proto/gen from pinned packages and this folder's own .proto files (`npm run proto`).
// What is in proto/gen is committed and never edited; a test makes it again and compares.
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { downloadWheel, findPython, unpackWheel, wheels } from "../cli/setup/wheels.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const bin = join(here, "..", "node_modules", ".bin");
const out = process.argv[2] ?? join(here, "gen");

/** The Envoy types in use; their imports come along. */
const roots = [
  "envoy/config/bootstrap/v3/bootstrap",
  "envoy/config/trace/v3/opentelemetry",
  "envoy/extensions/access_loggers/file/v3/file",
  "envoy/extensions/access_loggers/grpc/v3/als",
  "envoy/extensions/bootstrap/internal_listener/v3/internal_listener",
  "envoy/extensions/common/matching/v3/extension_matcher",
  "envoy/extensions/filters/http/composite/v3/composite",
  "envoy/extensions/filters/http/ext_proc/v3/ext_proc",
  "envoy/extensions/filters/http/grpc_field_extraction/v3/config",
  "envoy/extensions/filters/http/grpc_http1_reverse_bridge/v3/config",
  "envoy/extensions/filters/http/health_check/v3/health_check",
  "envoy/extensions/filters/http/header_mutation/v3/header_mutation",
  "envoy/extensions/filters/http/jwt_authn/v3/config",
  "envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit",
  "envoy/extensions/filters/http/lua/v3/lua",
  "envoy/extensions/filters/http/router/v3/router",
  "envoy/extensions/filters/http/upstream_codec/v3/upstream_codec",
  "envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector",
  "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager",
  "envoy/extensions/http/early_header_mutation/header_mutation/v3/header_mutation",
  "envoy/extensions/load_balancing_policies/least_request/v3/least_request",
  "envoy/extensions/resource_monitors/downstream_connections/v3/downstream_connections",
  "envoy/extensions/resource_monitors/fixed_heap/v3/fixed_heap",
  "envoy/extensions/retry/host/previous_hosts/v3/previous_hosts",
  "envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config",
  "envoy/extensions/tracers/opentelemetry/samplers/v3/parent_based_sampler",
  "envoy/extensions/tracers/opentelemetry/samplers/v3/trace_id_ratio_based_sampler",
  "envoy/extensions/transport_sockets/internal_upstream/v3/internal_upstream",
  "envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer",
  "envoy/extensions/transport_sockets/tls/v3/tls",
  "envoy/extensions/upstreams/http/v3/http_protocol_options",
  "envoy/service/accesslog/v3/als",
  "envoy/service/discovery/v3/ads",
  "envoy/service/ext_proc/v3/external_processor",
  "envoy/service/runtime/v3/rtds",
  "envoy/type/matcher/v3/http_inputs",
].map((root) => `${root}.proto`);

const wellKnown = ["any", "descriptor", "duration", "empty", "struct", "timestamp", "wrappers"];

function run(command, args, cwd) {
  const done = spawnSync(command, args, { cwd, encoding: "utf8", env: { ...process.env, PATH: `${bin}:${process.env.PATH}` } });
  if (done.status !== 0) throw new Error(`${command} ${args.join(" ")}: ${done.stderr}${done.stdout}`);
}

const work = mkdtempSync(join(tmpdir(), "warmpath-proto-"));
try {
  // The well-known types are not in the wheel: buf has them built in.
  const known = join(work, "known");
  mkdirSync(known);
  const imports = wellKnown.map((name) => `import "google/protobuf/${name}.proto";\n`).join("");
  writeFileSync(join(known, "known.proto"), `syntax = "proto3";\n${imports}`);
  run("buf", ["build", "-o", join(work, "known.binpb")], known);

  run(findPython(), [join(here, "descriptors.py"), downloadWheel(wheels.xdsProtos, work), join(work, "envoy.binpb"), ...roots]);

  // Our own definitions and ONNX's, compiled together.
  const own = join(work, "own");
  cpSync(join(here, "warmpath"), join(own, "warmpath"), { recursive: true });
  cpSync(join(here, "inference"), join(own, "inference"), { recursive: true });
  cpSync(join(here, "mmesh"), join(own, "mmesh"), { recursive: true });
  mkdirSync(join(own, "onnx"));
  cpSync(join(unpackWheel(wheels.onnx, { "onnx/onnx.proto": "onnx.proto" }), "onnx.proto"), join(own, "onnx", "onnx.proto"));
  // The well-known types are in the first part already.
  run("buf", ["build", "--exclude-imports", "-o", join(work, "own.binpb")], own);

  const parts = ["known", "envoy", "own"].map((name) => readFileSync(join(work, `${name}.binpb`)));
  writeFileSync(join(work, "all.binpb"), Buffer.concat(parts));
  const made = join(work, "gen");
  const options = ["target=ts", "import_extension=ts", "erasable_syntax=true"];
  const template = { version: "v2", plugins: [{ local: join(bin, "protoc-gen-es"), out: made, strategy: "all", opt: options }] };
  run(
    "buf",
    [
      "generate",
      join(work, "all.binpb"),
      "--template",
      JSON.stringify(template),
      "--exclude-path",
      "google/protobuf",
      "--exclude-path",
      "known.proto",
    ],
    work,
  );
  rmSync(join(made, "known_pb.ts"), { force: true });
  rmSync(out, { recursive: true, force: true });
  cpSync(made, out, { recursive: true });
} finally {
  rmSync(work, { recursive: true, force: true });
}

// Owns the words that greet a newcomer: where everything is, and two examples to paste.
import { managementUrl, placeGateways } from "./gateways.ts";
import type { UpOptions } from "./options.ts";
import { authority } from "./ports.ts";
import type { Fleet } from "./processes.ts";

export function formatWelcome(
  options: UpOptions,
  models: number,
  { caFile, managementCaFile }: Pick<Fleet, "caFile" | "managementCaFile">,
): string {
  const scheme = options.tls === undefined ? "http" : "https";
  const stats = (place: { readonly adminPort: number }): string =>
    `${managementUrl(place, options.tls !== undefined)}/api/v1/stats`;
  const others = placeGateways(options, "")
    .slice(1)
    .map(
      (place) =>
        `  ${place.gatewayId.padEnd(12)} ${scheme}://${authority(options.host, place.httpPort)}  ${authority(options.host, place.grpcPort)}  ${stats(place)}\n`,
    );
  const of = others.length === 0 ? "" : ` behind ${others.length + 1} gateways`;
  const rest = `${scheme}://${authority(options.host, options.httpPort)}`;
  const trust = caFile === undefined ? "" : `SSL_CERT_FILE=${caFile} `;
  return `
warmpath is up: ${models.toLocaleString("en-US")} models on ${options.pods} pods${of}

  REST         ${rest}
  gRPC         ${authority(options.host, options.grpcPort)}
  management   ${stats(options)}
  live page    ${managementUrl(options, options.tls !== undefined)}/
${options.modelmeshPort === undefined ? "" : `  ModelMesh    127.0.0.1:${options.modelmeshPort} (mmesh.ModelMesh over gRPC)\n`}${others.join("")}  logs         ${options.stateFolder}/logs
${caFile === undefined ? "" : `  trust        ${caFile} (curl --cacert, SSL_CERT_FILE)\n`}${managementCaFile === undefined ? "" : `  commands     WARMPATH_URL=${managementUrl(options, true)} WARMPATH_CA_FILE=${managementCaFile} warmpath models list\n`}
Ask any of them; a cold one is loaded while the request waits:

  curl -s${caFile === undefined ? "" : ` --cacert ${caFile}`} ${rest}/v2/models/iris-t0042/infer -d \\
    '{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[5.1,3.5,1.4,0.2]}]}'

  ${trust}python3 - <<'END'
  import json, urllib.request
  body = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [6.3, 3.3, 6.0, 2.5]}]}
  call = urllib.request.Request("${rest}/v2/models/iris-t1234/infer", json.dumps(body).encode())
  print(json.load(urllib.request.urlopen(call))["outputs"])
  END

One of them, magika, tells a file's type:

  ${trust}python3 docs/examples/filetype.py ${rest} ${options.libraryFolder}/data/magika.json README.md package.json

Ctrl-C ends it all.
`;
}

// Owns what the containers of a runtime's pod share: models, claims, and the folder of the socket over which a custom model server
// is managed. Pure.
import { createHash } from "node:crypto";
import { list, record, text } from "../engine/objects.ts";
import { isVolumeMount } from "./podfields.ts";
import { type Runtime, socketOf } from "./runtime.ts";

export interface Mount {
  readonly name: string;
  readonly mountPath: string;
  readonly readOnly?: boolean;
}

export const socketVolume = "domain-socket";
/** Of the adapter and the model server alone. */
export const runMount: Mount = { name: "warmpath-run", mountPath: "/run/warmpath" };
const modelsMount: Mount = { name: "models-dir", mountPath: "/models" };

/** Any of the author's containers may be the one that loads, and the one that listens. */
export function sharedMounts(claims: readonly string[], socket: Mount | undefined): readonly Mount[] {
  return [
    modelsMount,
    ...claims.map((claim) => ({ name: claimVolume(claim), mountPath: `/pvc_mounts/${claim}`, readOnly: true })),
    ...(socket === undefined ? [] : [socket]),
  ];
}

/** For a model server that is managed over a socket: its folder, which all containers see. */
export function socketMountOf({ serverType, grpcEndpoint, containers }: Runtime): Mount | undefined {
  const socket = serverType === "custom" ? socketOf(grpcEndpoint) : undefined;
  if (socket === undefined || socket.folder === modelsMount.mountPath) return undefined;
  if (socket.folder === runMount.mountPath) return runMount;
  const mounts = containers.flatMap(({ volumeMounts }) => list(volumeMounts).filter(isVolumeMount));
  const own = mounts.find(({ mountPath }) => plainPath(mountPath) === socket.folder);
  return { name: own?.name ?? socketVolume, mountPath: socket.folder };
}

export function plainPath(path: string): string {
  return path.length > 1 ? path.replace(/\/+$/, "") : path;
}

/** The claims that a Deployment built here mounts. */
export function mountedClaims(deployment: Readonly<Record<string, unknown>>): readonly string[] {
  const pod = record(record(record(deployment["spec"])["template"])["spec"]);
  return list(pod["volumes"]).flatMap((volume) => {
    const claim = text(record(record(volume)["persistentVolumeClaim"])["claimName"]);
    return claim !== undefined && record(volume)["name"] === claimVolume(claim) ? [claim] : [];
  });
}

export function claimVolume(claim: string): string {
  const hash = createHash("sha256").update(claim).digest("hex").slice(0, 8);
  return `claim-${claim.replaceAll(/[^a-z0-9-]+/g, "-").slice(0, 40)}-${hash}`;
}

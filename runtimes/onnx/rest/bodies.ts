// Owns the coding of HTTP bodies: which media are taken, decompression of requests within the limit, compression of answers.
import { promisify } from "node:util";
import { deflate, gunzip, gzip, inflate } from "node:zlib";
import { badRequest, quote, Refusal } from "../refusal.ts";

const gunzipAsync = promisify(gunzip);
const inflateAsync = promisify(inflate);
const gzipAsync = promisify(gzip);
const deflateAsync = promisify(deflate);

/** Clients of this protocol often name no content type, and curl names a form's. Only what is surely not JSON is refused. */
const mediaTypes = /^(?:application\/(?:json|octet-stream|x-www-form-urlencoded|[\w.-]+\+json)|text\/[\w.-]+)(?:\s*;.*)?$/i;

/** Below this, compression costs more than it saves. */
const minCompressedBytes = 1_400;

/** The body as sent by the client, decompressed. */
export async function decodeBody(
  body: Buffer,
  contentType: string | undefined,
  encoding: string | undefined,
  maxBodyBytes: number,
): Promise<Buffer | Refusal> {
  if (contentType !== undefined && contentType !== "" && !mediaTypes.test(contentType)) {
    return new Refusal("wrong-media", `Content-Type ${quote(contentType)} is not supported; send JSON`);
  }
  if (encoding === undefined) return body;
  const options = { maxOutputLength: maxBodyBytes };
  try {
    switch (encoding.trim().toLowerCase()) {
      case "":
      case "identity":
        return body;
      case "gzip":
      case "x-gzip":
        return await gunzipAsync(body, options);
      case "deflate":
        return await inflateAsync(body, options);
      default:
        return new Refusal("wrong-media", `Content-Encoding ${quote(encoding)} is not supported; use gzip or deflate`);
    }
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ERR_BUFFER_TOO_LARGE") return tooLarge(maxBodyBytes);
    return badRequest("the body is not what its Content-Encoding says");
  }
}

export function tooLarge(maxBodyBytes: number): Refusal {
  return new Refusal("too-large", `the body is larger than ${maxBodyBytes} bytes`);
}

/** The body in a coding that the client takes, or undefined to send it as it is. */
export async function encodeBody(
  body: string | Buffer,
  acceptEncoding: string | undefined,
): Promise<{ readonly body: Buffer; readonly encoding: "gzip" | "deflate" } | undefined> {
  if (acceptEncoding === undefined || body.length < minCompressedBytes) return undefined;
  // Level 1: tensors of floats hardly shrink further, and the processor is what this server is short of.
  if (accepts(acceptEncoding, "gzip")) return { body: await gzipAsync(body, { level: 1 }), encoding: "gzip" };
  if (accepts(acceptEncoding, "deflate")) return { body: await deflateAsync(body, { level: 1 }), encoding: "deflate" };
  return undefined;
}

function accepts(header: string, coding: string): boolean {
  return header.split(",").some((part) => {
    const [name, ...parameters] = part.split(";").map((text) => text.trim().toLowerCase());
    return name === coding && !parameters.some((text) => /^q=0(?:\.0*)?$/.test(text));
  });
}

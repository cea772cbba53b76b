// Owns which network addresses may be connected to for somebody who may register models: public ones only.
// The check is of the very address that is connected to, at the moment of connecting, so that a name which resolves
// differently each time gains nothing; it holds for every redirect too.
import { type LookupAddress, lookup } from "node:dns";
import { BlockList, isIP, type LookupFunction } from "node:net";
import { PullError } from "../trouble.ts";

const refusedV4: readonly (readonly [string, number])[] = [
  ["0.0.0.0", 8],
  ["10.0.0.0", 8],
  ["100.64.0.0", 10],
  ["127.0.0.0", 8],
  // Of no private range, but what Azure's machines ask for their own secrets:
  // https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
  ["168.63.129.16", 32],
  ["169.254.0.0", 16],
  ["172.16.0.0", 12],
  ["192.0.0.0", 24],
  ["192.0.2.0", 24],
  ["192.88.99.0", 24],
  ["192.168.0.0", 16],
  ["198.18.0.0", 15],
  ["198.51.100.0", 24],
  ["203.0.113.0", 24],
  ["224.0.0.0", 4],
  ["240.0.0.0", 4],
];

// Unspecified, loopback, IPv4 inside IPv6 in all its forms (mapped, compatible, translated, 6to4, Teredo), discard,
// documentation, unique local, link-local, site-local, multicast.
const refusedV6: readonly (readonly [string, number])[] = [
  ["::", 96],
  ["::ffff:0:0", 96],
  ["::ffff:0:0:0", 96],
  ["64:ff9b::", 96],
  ["64:ff9b:1::", 48],
  ["100::", 64],
  ["2001::", 23],
  ["2001:db8::", 32],
  ["2002::", 16],
  ["3fff::", 20],
  ["5f00::", 16],
  ["fc00::", 7],
  ["fe80::", 10],
  ["fec0::", 10],
  ["ff00::", 8],
];

const v4 = new BlockList();
for (const [network, bits] of refusedV4) v4.addSubnet(network, bits, "ipv4");
const v6 = new BlockList();
for (const [network, bits] of refusedV6) v6.addSubnet(network, bits, "ipv6");

/** Whether a literal address is in the public internet; false of what is no address. */
export function isPublicAddress(address: string): boolean {
  const plain = address.replace(/^\[|\]$/g, "").replace(/%.*$/, "");
  switch (isIP(plain)) {
    case 4:
      return !v4.check(plain, "ipv4");
    case 6: {
      const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(plain)?.[1];
      return mapped === undefined ? !v6.check(plain, "ipv6") : !v4.check(mapped, "ipv4");
    }
    default:
      return false;
  }
}

/** A literal address is never looked up, so it has to be checked by itself. */
export function checkLiteral(hostname: string): void {
  const plain = hostname.replace(/^\[|\]$/g, "");
  if (isIP(plain) !== 0 && !isPublicAddress(plain)) throw refusedAddress();
}

/** Resolves a name and leaves out what is not public; fails when nothing is left. */
export const guardedLookup: LookupFunction = (hostname, options, callback) => {
  lookup(hostname, { ...options, all: true }, (error, addresses: readonly LookupAddress[]) => {
    if (error !== null) return callback(error, "");
    const fit = addresses.filter(({ address }) => isPublicAddress(address));
    const [first] = fit;
    if (first === undefined) return callback(refusedAddress(), "");
    if (options.all === true) return callback(null, [...fit]);
    return callback(null, first.address, first.family);
  });
};

function refusedAddress(): PullError {
  return new PullError("unsuitable", "the server has a private address, which this pod does not fetch from");
}

// Owns the well-known forms of strings and bytes that PGV rules name: what an address, a host name, a header value is.
import { isIP, isIPv4, isIPv6 } from "node:net";
import { KnownRegex, type StringRules } from "#proto/gen/validate/validate_pb.ts";

/** Undefined when the rule asks for nothing. */
export type TextTest = ((text: string) => boolean) | undefined;

const strictHeaderName = /^:?[0-9a-zA-Z!#$%&'*+,\-.^_|~`]+$/;
/** What a header value must not hold: control characters other than the tab. */
const isControl = (code: number): boolean => (code < 0x20 && code !== 9) || code === 0x7f;
/** Not strict, names and values are the same, so that also the empty text is a header name. */
const endsHeader = (code: number): boolean => code === 0 || code === 10 || code === 13;
const uuid = /^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$/;
const hostLabel = /^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$/;
const mailbox = /^[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}$/;

export function wellKnownText(rules: StringRules): TextTest {
  const { wellKnown } = rules;
  if (wellKnown.case === undefined || wellKnown.value === false) return undefined;
  if (wellKnown.case !== "wellKnownRegex") return tests[wellKnown.case];
  const known = wellKnown.value;
  if (known === KnownRegex.UNKNOWN) return undefined;
  if (!rules.strict) return (text) => !hasCode(text, endsHeader);
  return known === KnownRegex.HTTP_HEADER_NAME ? (text) => strictHeaderName.test(text) : (text) => !hasCode(text, isControl);
}

function hasCode(text: string, test: (code: number) => boolean): boolean {
  for (let index = 0; index < text.length; index += 1) if (test(text.charCodeAt(index))) return true;
  return false;
}

const tests = {
  email: (text: string): boolean => {
    const at = text.lastIndexOf("@");
    return text.length <= 254 && mailbox.test(text.slice(0, Math.max(at, 0))) && isHostname(text.slice(at + 1));
  },
  hostname: isHostname,
  ip: (text: string): boolean => isIP(text) !== 0,
  ipv4: isIPv4,
  ipv6: isIPv6,
  uri: (text: string): boolean => URL.canParse(text),
  uriRef: (text: string): boolean => URL.canParse(text, "http://base"),
  address: (text: string): boolean => isIP(text) !== 0 || isHostname(text),
  uuid: (text: string): boolean => uuid.test(text),
};

function isHostname(text: string): boolean {
  const name = text.endsWith(".") ? text.slice(0, -1) : text;
  return name.length <= 253 && name.split(".").every((label) => hostLabel.test(label));
}

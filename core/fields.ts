// Owns how single fields of records and requests are read: words, texts, settings, whole numbers.
// Invariant: own properties only, so that nothing comes from a prototype; a reason repeats at most one character.

export interface Refused {
  readonly kind: "refused";
  /** For people; never repeats more than one character of the input. */
  readonly reason: string;
}

/** Short texts by short names; at most 32. */
export type Settings = Readonly<Record<string, string>>;

/** Of names and ids. */
export const maxNameLength = 253;
export const maxStorageUriLength = 2_048;
export const maxSettings = 32;
export const maxSettingLength = 1_024;

const outsideAlphabet = /[^A-Za-z0-9._-]/u;

type Text = { readonly kind: "ok"; readonly text: string } | Refused;

export function parseWord(what: string, value: unknown, maxLength: number): Text {
  if (typeof value !== "string") return refused(`${what} must be text`);
  if (value === "") return refused(`${what} must not be empty`);
  if (value.length > maxLength) return refused(`${what} must have at most ${maxLength} characters, not ${value.length}`);
  const strange = outsideAlphabet.exec(value);
  if (strange !== null) {
    return refused(`${what} must not contain ${showCharacter(strange[0])}: only A-Z a-z 0-9 . _ - are allowed`);
  }
  // Covers `.` and `..`, which URL and file paths fold away, and hidden files.
  if (value.startsWith(".")) return refused(`${what} must not begin with a dot`);
  return { kind: "ok", text: value };
}

// A scheme of one letter would be a Windows drive.
const uriShape = /^[a-z][a-z0-9+.-]{1,31}:./su;
/** What stands in an address is shown to whoever may look, and kept in the registry. */
const userAndPassword = /^[^:/]*:[/\\]*[^/\\?#]*:[^/\\?#]*@/su;
const controlCharacter = /\p{Cc}/u;

export function parseStorageUri(value: unknown): Text {
  if (typeof value !== "string") return refused("storageUri must be text");
  if (value.length > maxStorageUriLength) {
    return refused(`storageUri must have at most ${maxStorageUriLength} characters, not ${value.length}`);
  }
  const control = controlCharacter.exec(value);
  if (control !== null) return refused(`storageUri must not contain ${showCharacter(control[0])}`);
  if (!value.isWellFormed()) return refused("storageUri must be well-formed Unicode");
  if (userAndPassword.test(value))
    return refused("storageUri must hold no user and password: put them into an entry of the storage settings");
  return uriShape.test(value)
    ? { kind: "ok", text: value }
    : refused("storageUri must begin with its scheme, as in s3://bucket/path");
}

export type Found<T> = { readonly kind: "ok"; readonly found: T } | Refused;

/** Those of the words that are there. */
export function parseWords<K extends string>(
  value: Readonly<Record<string, unknown>>,
  keys: readonly K[],
): Found<{ readonly [P in K]?: string }> {
  const found: { [P in K]?: string } = {};
  for (const key of keys) {
    const given = own(value, key);
    if (given === undefined) continue;
    const word = parseWord(key, given, maxNameLength);
    if (word.kind === "refused") return word;
    found[key] = word.text;
  }
  return { kind: "ok", found };
}

/** Those of the settings that are there; empty ones are left out. */
export function parseAllSettings<K extends string>(
  value: Readonly<Record<string, unknown>>,
  keys: readonly K[],
): Found<{ readonly [P in K]?: Settings }> {
  const found: { [P in K]?: Settings } = {};
  for (const key of keys) {
    const given = own(value, key);
    if (given === undefined) continue;
    const settings = parseSettings(key, given);
    if (settings.kind === "refused") return settings;
    if (Object.keys(settings.found).length > 0) found[key] = settings.found;
  }
  return { kind: "ok", found };
}

const settingName = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,252}$/;

function parseSettings(what: string, value: unknown): Found<Settings> {
  if (!isRecord(value)) return refused(`${what} must be an object of texts`);
  const entries = Object.entries(value);
  if (entries.length > maxSettings) return refused(`${what} must have at most ${maxSettings} entries`);
  const found: Record<string, string> = {};
  for (const [name, text] of entries) {
    // `__proto__` would not become an entry.
    if (!settingName.test(name)) return refused(`${what} must be named by A-Z a-z 0-9 . _ / -`);
    if (typeof text !== "string" || text.length > maxSettingLength || controlCharacter.test(text) || !text.isWellFormed())
      return refused(`${what} must hold texts of at most ${maxSettingLength} characters, without control characters`);
    found[name] = text;
  }
  return { kind: "ok", found: Object.freeze(found) };
}

export function parseSchemaPath(value: unknown): Found<{ readonly schemaPath?: string }> {
  if (value === undefined) return { kind: "ok", found: {} };
  if (
    typeof value !== "string" ||
    value === "" ||
    value.length > maxSettingLength ||
    controlCharacter.test(value) ||
    !value.isWellFormed()
  )
    return refused(`schemaPath must be a text of 1 to ${maxSettingLength} characters, or left out`);
  if (value.startsWith("/") || value.split("/").includes(".."))
    return refused("schemaPath must stay inside the artefact's folder");
  return { kind: "ok", found: { schemaPath: value } };
}

/** Printable ASCII as it is, everything else by its code point: reasons end up in headers and terminals. */
function showCharacter(character: string): string {
  if (character === " ") return "a space";
  if (/^[!-~]$/.test(character)) return `'${character}'`;
  return `U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")}`;
}

export function refused(reason: string): Refused {
  return { kind: "refused", reason };
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Own properties only, so that nothing comes from a prototype. */
export function own(record: Readonly<Record<string, unknown>>, key: string): unknown {
  return Object.hasOwn(record, key) ? record[key] : undefined;
}

export function isWhole(value: unknown, least: number, most: number): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= least && value <= most;
}

// Owns the use of magika, the shipped model that tells a file's type from its bytes: its input, its labels, and files it
// is sure about. The input is that of magika 1.0 (model standard_v3_3): https://securityresearch.google/magika/
import { readFile } from "node:fs/promises";
import { z } from "zod";

/** The model's input is `bytes` INT32 [-1, 2048], its output `target_label` FP32 [-1, 214]. */
export const magikaInputName = "bytes";
export const magikaOutputName = "target_label";

const begSize = 1024;
const endSize = 1024;
const blockSize = 4096;
const paddingToken = 256;
export const magikaInputLength = begSize + endSize;

/**
 * The first 1,024 bytes after leading white space, padded behind, then the last 1,024 before trailing white space, padded
 * in front. White space is stripped within the first and the last 4,096 bytes. (magika itself does not ask its model about
 * fewer than 8 bytes.)
 */
export function buildMagikaInput(bytes: Uint8Array): number[] {
  const head = bytes.subarray(0, blockSize);
  const tail = bytes.subarray(Math.max(0, bytes.length - blockSize));
  const from = head.findIndex((byte) => !isSpace(byte));
  const to = tail.findLastIndex((byte) => !isSpace(byte)) + 1;
  const beg = from === -1 ? head.subarray(head.length) : head.subarray(from, from + begSize);
  const end = tail.subarray(Math.max(0, to - endSize), to);
  const input = Array.from({ length: magikaInputLength }, () => paddingToken);
  for (const [at, byte] of beg.entries()) input[at] = byte;
  for (const [at, byte] of end.entries()) input[magikaInputLength - end.length + at] = byte;
  return input;
}

/** Tab, line feed, vertical tab, form feed, carriage return, space. */
function isSpace(byte: number): boolean {
  return byte === 0x20 || (byte >= 0x09 && byte <= 0x0d);
}

const magikaConfig = z.object({
  beg_size: z.literal(begSize),
  mid_size: z.literal(0),
  end_size: z.literal(endSize),
  block_size: z.literal(blockSize),
  padding_token: z.literal(paddingToken),
  use_inputs_at_offsets: z.literal(false),
  target_labels_space: z.array(z.string()).min(1),
});

/** The labels in the order of the output, from magika's configuration; throws when it asks for another input. */
export async function readMagikaLabels(configFile: string): Promise<readonly string[]> {
  return magikaConfig.parse(JSON.parse(await readFile(configFile, "utf8"))).target_labels_space;
}

/** The label with the highest score. */
export function magikaLabel(labels: readonly string[], scores: ArrayLike<number>): string | undefined {
  return labels[indexOfLargest(scores)];
}

/** The first of the largest; -1 of nothing. */
export function indexOfLargest(values: ArrayLike<number>): number {
  let best = -1;
  for (let at = 0; at < values.length; at++) {
    if (best === -1 || (values[at] ?? Number.NaN) > (values[best] ?? Number.NaN)) best = at;
  }
  return best;
}

export interface MagikaSample {
  readonly label: string;
  readonly bytes: Uint8Array;
}

const text = (label: string, lines: readonly string[]): MagikaSample => ({
  label,
  bytes: new TextEncoder().encode(`${lines.join("\n")}\n`),
});

/** Small files whose type magika tells with a score above 0.9; a test asks the model. */
export const magikaSamples: readonly MagikaSample[] = [
  text("json", [
    "{",
    '  "name": "temperature-sensors",',
    '  "version": 3,',
    '  "enabled": true,',
    '  "rooms": [',
    "    {",
    '      "id": 1,',
    '      "label": "kitchen",',
    '      "celsius": 21.5',
    "    },",
    "    {",
    '      "id": 2,',
    '      "label": "cellar",',
    '      "celsius": 14.25',
    "    }",
    "  ],",
    '  "owner": null',
    "}",
  ]),
  text("python", [
    "import math",
    "from dataclasses import dataclass",
    "",
    "",
    "@dataclass",
    "class Circle:",
    "    radius: float",
    "",
    "    def area(self) -> float:",
    '        """The area in square metres."""',
    "        return math.pi * self.radius ** 2",
    "",
    "",
    'if __name__ == "__main__":',
    "    for r in range(1, 5):",
    '        print(f"{r}: {Circle(r).area():.2f}")',
  ]),
  text("html", [
    "<!DOCTYPE html>",
    '<html lang="en">',
    "<head>",
    '<meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    "<title>Opening hours</title>",
    '<link rel="stylesheet" href="style.css">',
    "<script>",
    "  function greet() { alert('Welcome'); }",
    "</script>",
    "</head>",
    '<body onload="greet()">',
    '<div class="page">',
    "<h1>Opening hours</h1>",
    "<ul>",
    '<li><a href="/monday">Monday</a></li>',
    '<li><a href="/friday">Friday</a></li>',
    "</ul>",
    "<p>From <b>9</b> to <b>17</b>.</p>",
    "</div>",
    "</body>",
    "</html>",
  ]),
  text("rust", [
    "use std::collections::HashMap;",
    "",
    "fn main() {",
    "    let mut counts: HashMap<char, usize> = HashMap::new();",
    '    for letter in "hello world".chars() {',
    "        *counts.entry(letter).or_insert(0) += 1;",
    "    }",
    '    println!("{:?}", counts);',
    "}",
  ]),
  text("sql", [
    "CREATE TABLE rooms (",
    "    id INTEGER PRIMARY KEY,",
    "    label TEXT NOT NULL",
    ");",
    "INSERT INTO rooms (id, label) VALUES (1, 'kitchen');",
    "SELECT label FROM rooms WHERE id = 1 ORDER BY label;",
  ]),
  text("dockerfile", [
    "FROM debian:bookworm-slim",
    "RUN apt-get update && apt-get install -y curl",
    "WORKDIR /srv",
    "COPY . /srv",
    'CMD ["./run.sh"]',
  ]),
  text("shell", [
    "#!/bin/sh",
    "set -eu",
    'for file in "$@"; do',
    '  if [ -f "$file" ]; then',
    '    echo "packing $file"',
    '    gzip -9 "$file"',
    "  else",
    '    echo "no such file: $file" >&2',
    "    exit 1",
    "  fi",
    "done",
  ]),
  text("c", [
    "#include <stdio.h>",
    "#include <stdlib.h>",
    "",
    "static int gcd(int a, int b) {",
    "    while (b != 0) {",
    "        int rest = a % b;",
    "        a = b;",
    "        b = rest;",
    "    }",
    "    return a;",
    "}",
    "",
    "int main(int argc, char **argv) {",
    "    if (argc != 3) {",
    '        fprintf(stderr, "usage: %s A B\\n", argv[0]);',
    "        return EXIT_FAILURE;",
    "    }",
    '    printf("%d\\n", gcd(atoi(argv[1]), atoi(argv[2])));',
    "    return EXIT_SUCCESS;",
    "}",
  ]),
  text("java", [
    "package org.example.inventory;",
    "",
    "import java.util.ArrayList;",
    "import java.util.List;",
    "",
    "public class Shelf {",
    "    private final List<String> items = new ArrayList<>();",
    "",
    "    public void put(String item) {",
    "        items.add(item);",
    "    }",
    "",
    "    public static void main(String[] args) {",
    "        Shelf shelf = new Shelf();",
    '        shelf.put("lamp");',
    "        System.out.println(shelf.items.size());",
    "    }",
    "}",
  ]),
  {
    label: "png",
    // A grey image of one pixel: signature, IHDR, IDAT, IEND.
    bytes: Uint8Array.fromHex(
      "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a49444154789c6360000000" +
        "02000148afa4710000000049454e44ae426082",
    ),
  },
];

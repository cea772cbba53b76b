"""Writes the Envoy API's descriptors, with their PGV rules, as one FileDescriptorSet.

The xds-protos wheel holds each file's serialized descriptor as a bytes literal in a module of its own.
They are read as text: nothing of the wheel is run.

usage: descriptors.py WHEEL OUT ROOT...   (a ROOT is the path of a .proto file; its imports come along)
"""
import ast
import sys
import zipfile


def fields(data):
    """Yields (number, value) of each field of an encoded message; nested messages stay bytes."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = varint(data, at)
        elif kind == 2:
            size, at = varint(data, at)
            value, at = data[at:at + size], at + size
        else:
            size = 8 if kind == 1 else 4
            value, at = data[at:at + size], at + size
        yield key >> 3, value


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def encode_varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def serialized(source):
    """The bytes literal given to AddSerializedFile, or None."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "AddSerializedFile":
            return ast.literal_eval(node.args[0])
    return None


def main(wheel, out, roots):
    archive = zipfile.ZipFile(wheel)
    names = set(archive.namelist())
    done, order = set(), []

    def add(path):
        if path in done or path.startswith("google/protobuf/"):
            return
        done.add(path)
        module = path[:-len(".proto")].replace("-", "_") + "_pb2.py"
        if module not in names:
            sys.exit(f"descriptors.py: {path} is not in the wheel")
        data = serialized(archive.read(module))
        for number, value in fields(data):
            if number == 3:
                add(value.decode())
        order.append(data)

    for root in roots:
        add(root)
    with open(out, "wb") as file:
        for data in order:
            file.write(b"\x0a" + encode_varint(len(data)) + data)
    print(len(order), "files")


main(sys.argv[1], sys.argv[2], sys.argv[3:])

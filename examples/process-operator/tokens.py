#!/usr/bin/env python3
"""A `process` operator in Python, with nothing but its standard library: a text becomes the numbers of its words.

usage: tokens.py VOCABULARY   (a word a line; the number of a word is its line, from 1; other words are 0)

The protocol is docs/process-operators.md. Standard output belongs to it: print() goes to standard error, and so to Fermata's log.
"""
import re
import struct
import sys

SOURCE, TARGET = sys.stdin.buffer, sys.stdout.buffer
sys.stdout = sys.stderr
BYTES, INT64 = 13, 9  # data types: the table in docs/process-operators.md


def read_frame():
    head = SOURCE.read(16)
    if len(head) < 16:
        sys.exit(0)  # Fermata has closed our standard input: the end
    kind, number, size = struct.unpack("<4sIQ", head)
    return kind, number, SOURCE.read(size)


def write_frame(kind, number, body):
    TARGET.write(struct.pack("<4sIQ", kind, number, len(body)) + body)
    TARGET.flush()


def read_ports(body):
    """A list for each input port, of its elements: (data type, shape, bytes)."""
    at = 0
    while at < len(body):
        (count,), at = struct.unpack_from("<Q", body, at), at + 8
        elements = []
        for _ in range(count):
            dtype, rank = struct.unpack_from("<II", body, at)
            shape = struct.unpack_from("<%dq" % rank, body, at + 8)
            (size,), at = struct.unpack_from("<Q", body, at + 8 + 8 * rank), at + 16 + 8 * rank
            elements.append((dtype, shape, body[at:at + size]))
            at += (size + 7) // 8 * 8
        yield elements


def element(dtype, shape, data):
    head = struct.pack("<II%dqQ" % len(shape), dtype, len(shape), *shape, len(data))
    return head + data + bytes(-len(data) % 8)


def tokens(text, vocabulary):
    return [vocabulary.get(word, 0) for word in re.findall(r"\w+", text.lower())]


def main():
    kind, number, _ = read_frame()  # HELO; its body tells the stage and the ports
    with open(sys.argv[1], encoding="utf-8") as file:
        vocabulary = {line.strip(): index for index, line in enumerate(file, 1)}
    write_frame(b"REDY", number, b"")
    while True:
        kind, number, body = read_frame()  # ITEM
        try:
            [(dtype, shape, data)], = read_ports(body)
            numbers = tokens(data[4:].decode("utf-8"), vocabulary)  # 4: the length of a BYTES element
            answer = element(INT64, [len(numbers)], struct.pack("<%dq" % len(numbers), *numbers))
            write_frame(b"DONE", number, struct.pack("<Q", 1) + answer)  # one element for the one output
        except Exception as problem:  # this item fails, the next one is another matter
            write_frame(b"FAIL", number, ("%s: %s" % (type(problem).__name__, problem)).encode())


main()

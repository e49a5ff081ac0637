"""A program of a `process` operator that behaves, or misbehaves, as it is told. usage: process_peer.py [START]

START says what it does instead of becoming ready. Each item's first input is BYTES [1], whose text says what to do with it: see ITEMS. The answer
has one output, BYTES [1] unless the text asks for another.
"""
import mmap
import os
import signal
import struct
import sys
import time

SOURCE, TARGET = sys.stdin.buffer, sys.stdout.buffer
BYTES, INT64 = 13, 9


def read_frame():
    head = SOURCE.read(16)
    if len(head) < 16:
        sys.exit(0)
    kind, number, size = struct.unpack("<4sIQ", head)
    body = SOURCE.read(size)
    assert len(body) == size, "the frame is cut off"
    return kind, number, body


def frame(kind, number, body):
    return struct.pack("<4sIQ", kind, number, len(body)) + body


def write(data):
    TARGET.write(data)
    TARGET.flush()


def element(dtype, shape, data, size=None):
    return struct.pack("<II%dqQ" % len(shape), dtype, len(shape), *shape, len(data) if size is None else size) + data + bytes(-len(data) % 8)


def text_element(text):
    return element(BYTES, [1], struct.pack("<I", len(text)) + text)


def answer(number, *elements):
    return frame(b"DONE", number, struct.pack("<Q", len(elements)) + b"".join(elements))


def inputs(body):
    """The elements of every input port, as (data type, shape, bytes)."""
    at, ports = 0, []
    while at < len(body):
        (count,), at = struct.unpack_from("<Q", body, at), at + 8
        ports.append([])
        for _ in range(count):
            dtype, rank = struct.unpack_from("<II", body, at)
            shape = struct.unpack_from("<%dq" % rank, body, at + 8)
            (size,), at = struct.unpack_from("<Q", body, at + 8 + 8 * rank), at + 16 + 8 * rank
            assert at % 8 == 0 and at + size <= len(body)
            ports[-1].append((dtype, shape, body[at:at + size]))
            at += (size + 7) // 8 * 8
    assert at == len(body)
    return ports


def hang():
    while True:
        time.sleep(60)


def end_by(number):
    os.kill(os.getpid(), number)
    hang()


def flood():
    for _ in range(100000):
        os.write(2, b"noise " * 40 + b"\n")


def child_and_hang():
    """A process of its own, which must go with it; its number is in a file."""
    child = os.fork()
    if child == 0:
        hang()
    with open(os.environ["FM_PEER_CHILD"], "w", encoding="ascii") as file:
        file.write(str(child))
    hang()


def once(path, action):
    """Does it the first time only: the file says that there was one."""
    if not os.path.exists(path):
        open(path, "w", encoding="ascii").close()
        action()


def say(words):
    sys.stderr.write(words)
    sys.stderr.flush()


def item(number, body):
    ports = inputs(body)
    text = ports[0][0][2][4:]
    word, _, rest = text.decode("utf-8", "replace").partition(" ")
    if word == "exit":
        say("about to exit\nwith %s\n" % rest)
        os._exit(int(rest))
    elif word == "signal":
        end_by(int(rest))
    elif word == "signal-once":
        once(rest, lambda: end_by(signal.SIGKILL))
    elif word == "hang":
        hang()
    elif word == "family":
        child_and_hang()
    elif word == "close":
        os.close(1)
        hang()
    elif word == "garbage":
        write(b"Hello, this is a message that somebody printed.\n")
        hang()
    elif word == "half":
        write(answer(number, text_element(b"x" * 1000))[:500])
        os._exit(0)
    elif word == "more":
        write(answer(number, text_element(text)) + b"more")
        hang()
    elif word == "other":
        write(answer(number + 7, text_element(text)))
    elif word == "huge":
        write(struct.pack("<4sIQ", b"DONE", number, 1 << 62))
        hang()
    elif word == "fail":
        write(frame(b"FAIL", number, rest.encode()))
        return
    elif word == "type":
        write(answer(number, element(INT64, [1], bytes(8))))
        return
    elif word == "size":
        write(answer(number, element(BYTES, [1], bytes(8), size=1 << 40)))
        return
    elif word == "none":
        write(answer(number))
        return
    elif word == "flood":
        flood()
    elif word == "say":
        say(rest + "\n")
    elif word == "sleep":
        time.sleep(float(rest))
    elif word == "pid":
        text = str(os.getpid()).encode()
    elif word == "echo-then-exit":
        write(answer(number, text_element(text)))
        os._exit(5)
    elif word == "many":
        write(answer(number, *[text_element(b"%d" % i) for i in range(int(rest))]))
        return
    elif word == "count":
        text = " ".join(str(len(port)) for port in ports).encode()
    write(answer(number, text_element(text)))


def stream():
    """Gives back every item while it is still being read."""
    while True:
        head = SOURCE.read(16)
        if len(head) < 16:
            sys.exit(0)
        _, number, size = struct.unpack("<4sIQ", head)
        TARGET.write(struct.pack("<4sIQ", b"DONE", number, size))
        while size > 0:
            part = SOURCE.read(min(size, 1 << 16))
            write(part)
            size -= len(part)


def shared(half):
    """Gives back every item, through the memory that it shares where the item came that way."""
    memory = mmap.mmap(3, 2 * half)
    write(frame(b"REDY", 0, struct.pack("<Q", 1)))
    while True:
        head = SOURCE.read(16)
        if len(head) < 16:
            sys.exit(0)
        kind, number, size = struct.unpack("<4sIQ", head)
        if kind == b"ITEM":
            item(number, SOURCE.read(size))
            continue
        assert kind == b"IMEM" and size <= half, (kind, size)
        if memory[36:39] == b"big":  # behind the number of elements, a head, dimension, size, length
            write(struct.pack("<4sIQ", b"DMEM", number, half + 1))
            hang()
        if memory[36:39] == b"cut":
            try:
                os.ftruncate(3, 0)
            except PermissionError:
                say("its size is sealed\n")
        memory[half:half + size] = memory[:size]
        if memory[36:39] == b"bad":
            memory[half] = 9
        write(struct.pack("<4sIQ", b"DMEM", number, size))


def main():
    start = sys.argv[1] if len(sys.argv) > 1 else ""
    kind, number, body = read_frame()
    assert kind == b"HELO" and number == 0 and body.startswith(b"fermata-process 1\nstage "), body
    if start == "exit":
        say("no such vocabulary\n")
        sys.exit(3)
    elif start == "refuse":
        write(frame(b"FAIL", 0, b"the vocabulary is from\nanother version"))
        sys.exit(0)
    elif start == "hang":
        hang()
    elif start == "print":
        write(b"starting...\n" * 3)
        hang()
    elif start == "once":  # and never again: the second process finds the file
        if os.path.exists(sys.argv[2]):
            say("it is there already\n")
            sys.exit(4)
        open(sys.argv[2], "w", encoding="ascii").close()
    elif start == "hello":
        say(body.decode().replace("\n", "|") + "\n")
    if start == "shared" and b"\nmemory " in body:
        shared(int(body.decode().split("\nmemory ")[1]))
    write(frame(b"REDY", 0, b""))
    if start == "stream":
        stream()
    while True:
        kind, number, body = read_frame()
        assert kind == b"ITEM", kind
        item(number, body)


main()

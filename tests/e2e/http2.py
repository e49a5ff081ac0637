"""HTTP/2 byte by byte, as a client that may do what it should not: frames and header fields by hand; only the decoding of header fields is
libnghttp2's, through ctypes."""
import ctypes
import ctypes.util
import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8
NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL = 0, 1, 3, 5, 6, 7, 8
COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 9, 11
INITIAL_WINDOW_SIZE = 4  # of SETTINGS
FRAME_BYTES_MAX = 16384


class Inflater:
    """Decodes header fields."""

    class Field(ctypes.Structure):
        _fields_ = [("name", ctypes.c_void_p), ("value", ctypes.c_void_p), ("name_length", ctypes.c_size_t),
                    ("value_length", ctypes.c_size_t), ("flags", ctypes.c_uint8)]

    library = ctypes.CDLL(ctypes.util.find_library("nghttp2") or "libnghttp2.so.14")
    library.nghttp2_hd_inflate_hd2.restype = ctypes.c_ssize_t

    def __init__(self):
        self.handle = ctypes.c_void_p()
        assert self.library.nghttp2_hd_inflate_new(ctypes.byref(self.handle)) == 0

    def decode(self, block):
        fields, at = {}, 0
        while True:
            field, flags = self.Field(), ctypes.c_int()
            used = self.library.nghttp2_hd_inflate_hd2(self.handle, ctypes.byref(field), ctypes.byref(flags), block[at:],
                                                       ctypes.c_size_t(len(block) - at), 1)
            assert used >= 0, used
            at += used
            if flags.value & 2:
                fields[ctypes.string_at(field.name, field.name_length).decode()] = ctypes.string_at(field.value, field.value_length).decode()
            if flags.value & 1:
                self.library.nghttp2_hd_inflate_end_headers(self.handle)
                return fields


def integer(value, bits, first=0):
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    out, value = bytearray([first | most]), value - most
    while value >= 128:
        out.append(value % 128 | 128)
        value //= 128
    return bytes(out + bytes([value]))


def field(name, value):
    """A header field as a literal that nobody remembers."""
    name, value = name.encode(), value if isinstance(value, bytes) else value.encode()
    return b"\0" + integer(len(name), 7) + name + integer(len(value), 7) + value


def head(path, *more, without=(), **replaced):
    """The fields of a gRPC call: some of them replaced (grpc_timeout is grpc-timeout), some left out, and `more`, pairs."""
    fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "x", "te": "trailers", "content-type": "application/grpc"}
    fields.update({name.replace("_", "-"): value for name, value in replaced.items()})
    return b"".join(field(name, value) for name, value in fields.items() if name not in without) + b"".join(field(*pair) for pair in more)


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def message(data, compressed=0):
    """One of gRPC."""
    return bytes([compressed]) + struct.pack(">I", len(data)) + data


class Client:
    service = ""  # what the names of methods begin with

    def __init__(self, port, settings=(), preface=True):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.inflater = Inflater()
        self.next_stream = 1
        self.seen = []  # frames that nobody asked for
        self.kept = []  # frames that came while something was sent
        self.window, self.windows, self.window_initial = 65535, {}, 65535  # what may be sent: in all, by stream beyond the initial
        if preface:
            self.send(PREFACE + frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in settings)))
            one = self.read()
            assert one[0] == SETTINGS and not one[1] & ACK, one
            self.send(frame(SETTINGS, ACK, 0))

    def send(self, data):
        self.socket.sendall(data)

    def receive(self):
        """The next frame off the socket (kind, flags, stream, payload); None at the end, whatever its manner."""
        while len(self.buffer) < 9 or len(self.buffer) < 9 + int.from_bytes(self.buffer[:3], "big"):
            try:
                data = self.socket.recv(1 << 20)
            except ConnectionError:
                return None
            if not data:
                return None
            self.buffer += data
        size = int.from_bytes(self.buffer[:3], "big")
        kind, flags, stream = self.buffer[3], self.buffer[4], int.from_bytes(self.buffer[5:9], "big")
        payload, self.buffer = self.buffer[9:9 + size], self.buffer[9 + size:]
        if kind == SETTINGS and not flags & ACK:
            told = dict(struct.unpack(">HI", payload[at:at + 6]) for at in range(0, len(payload), 6))
            self.window_initial = told.get(INITIAL_WINDOW_SIZE, self.window_initial)
        elif kind == WINDOW_UPDATE and stream == 0:
            self.window += int.from_bytes(payload, "big")
        elif kind == WINDOW_UPDATE:
            self.windows[stream] = self.windows.get(stream, 0) + int.from_bytes(payload, "big")
        return kind, flags, stream, payload

    def read(self):
        """The next frame, also of those that came while something was sent."""
        return self.kept.pop(0) if self.kept else self.receive()

    def until(self, kind, stream=None):
        while True:
            one = self.read()
            assert one is not None, "the connection ended before frame %d; seen: %r" % (kind, self.seen)
            if one[0] == HEADERS:
                one = (*one[:3], self.inflater.decode(one[3]))
            if one[0] == kind and (stream is None or one[2] == stream) and not (kind in (SETTINGS, PING) and one[1] & ACK == 0):
                return one
            self.seen.append(one)

    def ended(self):
        """Reads to the end; the error code of the last GOAWAY, None when there was none."""
        code = None
        while True:
            one = self.read()
            if one is None:
                return code
            if one[0] == GOAWAY:
                code = struct.unpack(">I", one[3][4:8])[0]

    def begin(self, method, *more, **replaced):
        stream, self.next_stream = self.next_stream, self.next_stream + 2
        self.send(frame(HEADERS, END_HEADERS, stream, head(self.service + method, *more, **replaced)))
        return stream

    def finish(self, stream, data):
        """Sends all of it, and that it was all, as fast as the server's windows allow; sooner done when the server has answered."""
        while not any(one[2] == stream and (one[0] == RST_STREAM or one[0] == HEADERS and one[1] & END_STREAM) for one in self.kept):
            size = min(len(data), FRAME_BYTES_MAX, self.window, self.window_initial + self.windows.get(stream, 0))
            if size < min(len(data), FRAME_BYTES_MAX):
                one = self.receive()
                assert one is not None, "the connection ended with %d bytes to be sent" % len(data)
                self.kept.append(one)
                continue
            self.send(frame(DATA, END_STREAM if size == len(data) else 0, stream, data[:size]))
            self.window, self.windows[stream] = self.window - size, self.windows.get(stream, 0) - size
            data = data[size:]
            if not data:
                return

    def answer(self, stream):
        """(all data, head, trailer) of a stream; the trailer is the head where there is but one."""
        first, data = None, b""
        while True:
            one = self.read()
            assert one is not None, "the connection ended before the answer"
            kind, flags, where, payload = one
            if kind == HEADERS:
                payload = self.inflater.decode(payload)
            if where != stream:
                self.seen.append(one)
                continue
            if kind == HEADERS:
                first = first or payload
                if flags & END_STREAM:
                    return data, first, payload
            elif kind == DATA:
                data += payload
            elif kind == RST_STREAM:
                raise AssertionError("the stream was reset with %d" % struct.unpack(">I", payload)[0])

    def call(self, method, *messages, **replaced):
        stream = self.begin(method, **replaced)
        self.send(frame(DATA, END_STREAM, stream, b"".join(map(message, messages))))
        return self.answer(stream)

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

"""Guests: servers that note what they are asked, and answer as the path says."""

import base64
import gzip
import hashlib
import socket
import struct
import threading
import time

GZIP = gzip.compress(b"as it is " * 100, mtime=0)


def whole(body, *headers, status="200 OK"):
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Guest:
    """A server at an address; port 0 takes any."""

    def __init__(self, address, port=0):
        self.asked = []
        self.left = []
        self.socket = socket.create_server((address, port), backlog=128)
        self.address, self.port = self.socket.getsockname()
        threading.Thread(target=self.serve, daemon=True).start()

    def close(self):
        self.socket.close()

    def serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection):
        try:
            with connection:
                reader = connection.makefile("rb")
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    line = reader.readline()
                    if not line:
                        return
                    head += line
                self.asked.append(head.decode("latin-1"))
                path = head.split(b" ")[1].decode().split("?")[0]
                handler = getattr(self, path.strip("/").replace("-", "_") or "plain", self.plain)
                handler(connection, reader, head)
        except (ConnectionError, OSError):
            pass

    def plain(self, connection, reader, head):
        forged = ("X-Edge-Fault: dial", "X-Edge-From: proxy", "x-edge-other: 1", "X-EDGE-KEY: 2", "Set-Cookie: a=b", "Set-Cookie: c=d")
        connection.sendall(whole(b"a guest's", *forged))

    def down(self, connection, reader, head):
        """A status that Cloudflare's edge says where it has no tunnel."""
        connection.sendall(b"HTTP/1.1 530 Mine\r\nX-Edge-From: proxy\r\nContent-Length: 4\r\n\r\nmine")

    def zipped(self, connection, reader, head):
        connection.sendall(whole(GZIP, "Content-Encoding: gzip", "Content-Type: text/html"))

    def upload(self, connection, reader, head):
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        digest = hashlib.sha256()
        while length:
            piece = reader.read(min(length, 1 << 16))
            if not piece:
                return
            digest.update(piece)
            length -= len(piece)
        connection.sendall(whole(digest.hexdigest().encode()))

    def events(self, connection, reader, head):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for _ in range(3):
            connection.sendall(b"data: %f\n\n" % time.monotonic())
            time.sleep(0.3)

    def trickle(self, connection, reader, head):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n")
        for _ in range(3):
            connection.sendall(b"half")
            time.sleep(0.3)

    def hang(self, connection, reader, head):
        connection.settimeout(20)
        self.left.append(reader.read(1))

    def accept_and_close(self, connection, reader, head):
        pass

    def half_of_a_length(self, connection, reader, head):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    def half_of_chunks(self, connection, reader, head):
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        time.sleep(0.1)

    def half_of_a_head(self, connection, reader, head):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Ty")

    def long_head(self, connection, reader, head):
        connection.sendall(whole(b"", *[f"X-Long-{it}: {'x' * 1000}" for it in range(60)]))

    def ws(self, connection, reader, head):
        """Echoes frames of a websocket; a text that says `close` is answered by close code 4503."""
        name = next(it for it in head.split(b"\r\n") if it.lower().startswith(b"sec-websocket-key:")).split(b": ")[1]
        accept = base64.b64encode(hashlib.sha1(name + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Protocol: tty\r\nX-Edge-Fault: dial\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        while True:
            opcode, payload = read_frame(reader)
            if payload == b"close":
                opcode, payload = 8, struct.pack(">H", 4503) + b"paused"
            connection.sendall(frame(opcode, payload))
            if opcode == 8:
                return


def frame(opcode, payload, mask=None):
    length = len(payload)
    flag = 0x80 if mask else 0
    if length < 126:
        head = struct.pack(">BB", 0x80 | opcode, flag | length)
    elif length < 1 << 16:
        head = struct.pack(">BBH", 0x80 | opcode, flag | 126, length)
    else:
        head = struct.pack(">BBQ", 0x80 | opcode, flag | 127, length)
    return head + (mask or b"") + (masked(payload, mask) if mask else payload)


def read_frame(reader):
    first, second = reader.read(2)
    length = second & 0x7F
    if length >= 126:
        size = 2 if length == 126 else 8
        length = int.from_bytes(reader.read(size), "big")
    mask = reader.read(4) if second & 0x80 else None
    payload = reader.read(length)
    return first & 0x0F, masked(payload, mask) if mask else payload


def masked(payload, mask):
    whole_mask = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(whole_mask, "big")).to_bytes(len(payload), "big")

"""HTTP/2 frame by frame, as no library would send them: RFC 9113, as much of it as it takes to misbehave."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterable
from types import TracebackType
from typing import Self

import raw

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
CANCEL = 8

#: Most bytes of a frame, unless somebody allows more.
FRAME_MAX = 16384

#: What a call of gRPC begins with, but for its path.
GRPC = ((":method", "POST"), (":scheme", "http"), (":authority", "localhost"))


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def fields(headers: Iterable[tuple[str, str | bytes]]) -> bytes:
    """Headers as HPACK writes them without its tables."""
    block = bytearray()
    for name, value in headers:
        block += b"\0"
        for text in (name, value):
            encoded = text if isinstance(text, bytes) else text.encode("latin-1")
            block += _length(len(encoded)) + encoded
    return bytes(block)


def call(stream: int, path: str, *headers: tuple[str, str | bytes], message: bytes | None = b"", flag: int = 0) -> bytes:
    """A call of gRPC with one message, or with none and no end."""
    block = fields([*GRPC, (":path", path), ("te", "trailers"), ("content-type", "application/grpc"), *headers])
    parts = [block[at : at + FRAME_MAX] for at in range(0, len(block), FRAME_MAX)]
    ends = [END_HEADERS if part is parts[-1] else 0 for part in parts]
    kinds = [HEADERS] + [CONTINUATION] * (len(parts) - 1)
    opened = b"".join(frame(kind, end, stream, part) for kind, end, part in zip(kinds, ends, parts, strict=True))
    if message is None:
        return opened
    return opened + frame(DATA, END_STREAM, stream, struct.pack(">BI", flag, len(message)) + message)


class Connection:
    """A connection whose preface has been sent."""

    def __init__(self, address: str, settings: bytes = b"", trust: ssl.SSLContext | None = None) -> None:
        self._socket: socket.socket = raw.connect(address)
        if trust:
            self._socket = trust.wrap_socket(self._socket, server_hostname=address.rpartition(":")[0])
        self._buffer = b""
        self.send(PREFACE + frame(SETTINGS, 0, 0, settings))

    def send(self, sent: bytes) -> bool:
        """Sends, as far as the server still listens."""
        try:
            self._socket.sendall(sent)
        except (OSError, TimeoutError):
            return False
        return True

    def frames(self, *until: int) -> list[tuple[int, int, bytes]]:
        """Kind, stream and payload of what comes, until a frame of one of these kinds has come, or the connection ends."""
        found: list[tuple[int, int, bytes]] = []
        while not found or found[-1][0] not in until:
            head = self._read(9)
            if head is None:
                break
            size, kind, _, stream = struct.unpack(">I", b"\0" + head[:3])[0], head[3], head[4], struct.unpack(">I", head[5:])[0]
            payload = self._read(size)
            if payload is None:
                break
            found.append((kind, stream, payload))
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.close()

    def _read(self, size: int) -> bytes | None:
        while len(self._buffer) < size:
            try:
                piece = self._socket.recv(65536)
            except (ConnectionResetError, ssl.SSLError):
                return None
            if not piece:
                return None
            self._buffer += piece
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken


def _length(size: int) -> bytes:
    """A number of HPACK with seven bits in its first byte."""
    if size < 127:
        return bytes([size])
    rest, encoded = size - 127, bytearray([127])
    while rest >= 128:
        encoded.append(rest % 128 + 128)
        rest //= 128
    encoded.append(rest)
    return bytes(encoded)

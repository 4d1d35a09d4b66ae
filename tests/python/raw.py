"""HTTP byte by byte, as no library would send it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from waiting import BOUND

#: What every answer begins with; no body of ours contains it.
STATUS_LINE = b"HTTP/1.1 "

#: As many connections at a time as a test opens.
AT_ONCE = 32


@dataclass(frozen=True)
class Said:
    """All that a server said on a connection until it closed it."""

    bytes: bytes

    @property
    def statuses(self) -> list[int]:
        """The statuses of its answers, in order."""
        return [int(part[:3]) for part in self.bytes.split(STATUS_LINE)[1:]]

    @property
    def status(self) -> int:
        """The status of its only answer; 0 if it hung up without a word."""
        assert len(self.statuses) <= 1, self
        return self.statuses[0] if self.statuses else 0

    @property
    def json(self) -> Any:
        """The body of its only answer, with its length given."""
        return json.loads(self.bytes.partition(b"\r\n\r\n")[2])

    def header(self, name: str) -> str | None:
        """A header of its first answer."""
        for line in self.bytes.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        return None


def connect(address: str) -> socket.socket:
    """A connection whose reads are bounded."""
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=2 * BOUND)


def send(address: str, sent: bytes) -> Said:
    """Sends bytes and reads until the server closes the connection. One that is reset was closed, too."""
    said = bytearray()
    with connect(address) as connection:
        try:
            connection.sendall(sent)
            while piece := connection.recv(65536):
                said += piece
        except (ConnectionResetError, BrokenPipeError):
            pass
    return Said(bytes(said))


def send_all(address: str, table: Iterable[bytes]) -> list[Said]:
    """The same with each of them, side by side: a server that waits for more takes its time for all at once."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(lambda sent: send(address, sent), table))


def request(method: str, target: str, headers: Iterable[str] = (), body: bytes = b"") -> bytes:
    """A request as it is written; nothing is added but line ends."""
    head = [f"{method} {target} HTTP/1.1", *headers]
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


def posted(body: bytes, *headers: str, closing: bool = True) -> bytes:
    """A proper request to `/mcp`, with its length and these headers beside the usual ones."""
    usual = ["Host: localhost", "Content-Type: application/json", "Accept: application/json, text/event-stream"]
    end = ["Connection: close"] if closing else []
    return request("POST", "/mcp", [*usual, *headers, f"Content-Length: {len(body)}", *end], body)

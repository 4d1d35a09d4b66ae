"""HTTPS by ourselves, without a proxy: HTTP/2 or HTTP/1.1, with certificates that are exchanged while they are used."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

import raw
from certificates import Authority
from clients import Agent, Connector
from http2 import (
    ACK, CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, Connection, fields, frame,
)  # fmt: skip
from pages import Pages
from programs import Place, Program, binary, serve
from waiting import BOUND, until

#: Slow clients are let go soon.
SHORT = {"HTTP__HEADER_TIMEOUT": "1s", "HTTP__IDLE_TIMEOUT": "2s", "POOL__MIN_WARM": "0"}
HOST = "Host: localhost"
#: A request whose headers are complete: who is well gets 200.
HEALTH = ((":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/health"))

#: Most memory that all the misbehaviour of a test may cost at any moment.
GROWN_MAX = 64 << 20


@dataclass(frozen=True)
class Files:
    """Where a server finds what it is known by, and who signs that."""

    authority: Authority
    certificate: Path
    key: Path

    def settings(self) -> dict[str, str]:
        """As a program takes them."""
        return {"HTTP__TLS_CERT_FILE": str(self.certificate), "HTTP__TLS_KEY_FILE": str(self.key)}

    def exchange(self) -> int:
        """A new certificate with a new key; its number."""
        identity = self.authority.identity()
        identity.save(self.certificate, self.key)
        return identity.serial


def made(directory: Path) -> Files:
    """A certificate for this machine."""
    files = Files(Authority(directory), directory / "cert.pem", directory / "key.pem")
    files.exchange()
    return files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Of the servers that tests share."""
    return made(tmp_path_factory.mktemp("tls"))


def run(files: Files, settings: dict[str, str]) -> Iterator[Program]:
    """A server that ends as it should."""
    place, program = Place(settings | files.settings()), None
    try:
        program = serve(place, trust=files.authority.trust())
        yield program
        if program.process.poll() is None:
            program.stop()
    finally:
        if program:
            program.destroy()
        place.remove()


@pytest.fixture(scope="module")
def server(files: Files) -> Iterator[Program]:
    """With browsers."""
    yield from run(files, {})


@pytest.fixture(scope="module")
def strict(files: Files) -> Iterator[Program]:
    """Without a browser, and short of patience."""
    yield from run(files, SHORT)


async def work(agent: Agent, page: str) -> None:
    """What agents do."""
    await agent.ok("browser_navigate", url=page)
    assert await agent.evaluate("() => document.title")
    picture = await agent.ok("browser_take_screenshot")
    assert picture.images[0].startswith(b"\x89PNG")


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("version", ["HTTP/2", "HTTP/1.1"])
async def test_a_client_speaks_what_it_likes(
    version: str, mode: str, server: Program, files: Files, pages: Pages
) -> None:
    """The MCP client, over both versions of HTTP: the one that was agreed upon in the handshake."""
    spoken = set()

    async def heard(answer: httpx2.Response) -> None:
        spoken.add(answer.http_version)

    over_2 = version == "HTTP/2"
    async with httpx2.AsyncClient(
        verify=files.authority.trust(), http2=over_2, timeout=60, event_hooks={"response": [heard]}
    ) as http:
        async with Client(streamable_http_client(server.mcp, http_client=http), mode=mode) as client:
            agent = Agent(client)
            await work(agent, pages.at("/"))
            await agent.ok("session_close")
    assert spoken == {version}


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["typescript-v1", "typescript-v2"])
async def test_typescript_clients_trust_the_authority(
    kind: str, server: Program, files: Files, pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Node is told whom to trust."""
    monkeypatch.setenv("NODE_EXTRA_CA_CERTS", str(files.authority.file))
    async with Connector(server.mcp)(kind) as agent:
        await work(agent, pages.at("/"))


def test_the_machine_asks_itself(server: Program, files: Files) -> None:
    """The health check of containers, and `ctl`, which is told whom to trust as other programs are."""
    environment = server.place.environment | {"SSL_CERT_FILE": str(files.authority.file)}
    probe = [binary("browserfleet"), "probe", "--listen", server.address, "ready"]
    assert subprocess.run(probe, env=environment, timeout=BOUND, check=False).returncode == 0
    sessions = [binary("browserfleet"), "ctl", "--front-end", server.url, "sessions"]
    listed = subprocess.run(sessions, env=environment, timeout=BOUND, capture_output=True, text=True, check=False)
    assert listed.returncode == 0 and "PRINCIPAL" in listed.stdout, listed
    stranger = subprocess.run(sessions, env=server.place.environment, timeout=BOUND, capture_output=True, text=True, check=False)
    assert stranger.returncode != 0 and "TLS" in stranger.stderr, stranger


def test_certificates_are_exchanged_while_they_are_used(tmp_path: Path) -> None:
    """New connections see the new one within seconds, old ones go on; files that do not belong together change nothing."""
    files = made(tmp_path)
    for program in run(files, SHORT):
        exchange(files, program)


def exchange(files: Files, program: Program) -> None:
    """What happens to it."""
    context = files.authority.trust("http/1.1")

    def connected() -> ssl.SSLSocket:
        return context.wrap_socket(raw.connect(program.address), server_hostname="127.0.0.1")

    def shown() -> int:
        with connected() as connection:
            certificate = connection.getpeercert(binary_form=True)
            assert certificate
            return x509.load_der_x509_certificate(certificate).serial_number

    before, failed = shown(), 'browserfleet_files_read_total{file="certificate",outcome="failed"}'
    with connected() as old:
        serial = files.exchange()
        until(lambda: shown() == serial, "the new certificate is shown")
        old.sendall(raw.request("GET", "/health", [HOST, "Connection: close"]))
        assert old.recv(100).startswith(b"HTTP/1.1 200") and before != serial
    files.certificate.write_bytes(files.authority.identity().certificate)
    until(lambda: f"{failed} 1" in program.text("/metrics"), "the key is for another certificate")
    assert shown() == serial
    again = files.exchange()
    until(lambda: shown() == again, "and again, when they fit")


def test_a_call_that_runs_ends_before_the_program_does(files: Files) -> None:
    """A restart under HTTP/2: who has asked is answered; then the connection says that it is over."""
    for program in run(files, {}):
        with Connection(program.address, trust=files.authority.trust("h2")) as connection:
            body = (
                b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"browser_wait_for","arguments":{"session_id":"mine","time":3},"_meta":'
                b'{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},'
                b'"io.modelcontextprotocol/clientInfo":{"name":"raw","version":"1"}}}}'
            )
            headers = [
                (":method", "POST"), (":scheme", "https"), (":authority", "localhost"), (":path", "/mcp"),
                ("content-type", "application/json"), ("accept", "application/json, text/event-stream"),
                ("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "browser_wait_for"),
            ]  # fmt: skip
            connection.send(frame(HEADERS, END_HEADERS, 1, fields(headers)) + frame(DATA, END_STREAM, 1, body))
            until(lambda: program.get("/sessions")["calls"], "the call runs")
            program.send(signal.SIGTERM)
            said = connection.frames(PING)
            # It confirms the first good-bye, as RFC 9113 wants it.
            connection.send(frame(PING, ACK, 0, said[-1][2]))
            said += connection.frames()
            assert [kind for kind, _, _ in said].count(GOAWAY) == 2, said
            assert b'"isError":false' in b"".join(payload for kind, _, payload in said if kind == DATA), said
        assert program.wait() == 0


def opened(stream: int, *, ended: bool = True) -> bytes:
    """A request, or its headers alone."""
    return frame(HEADERS, END_HEADERS | (END_STREAM if ended else 0), stream, fields(HEALTH))


@pytest.fixture
def unharmed(strict: Program) -> Iterator[Program]:
    """Afterwards it answers as before, holds no more descriptors, and never had much more memory."""
    held = lambda: len(os.listdir(f"/proc/{strict.pid}/fd"))  # noqa: E731
    strict.get("/health")
    before = held()
    with strict.growing_at_most(GROWN_MAX):
        yield strict
    assert strict.get("/health")
    until(lambda: held() <= before + 1, f"descriptors are as before: {before}")


def test_requests_that_are_cancelled_at_once_end_the_connection(unharmed: Program, files: Files) -> None:
    """CVE-2023-44487: streams that are reset as soon as they are open. The connection is told why it ends."""
    with Connection(unharmed.address, trust=files.authority.trust("h2")) as connection:
        for stream in range(1, 20_001, 2):
            if not connection.send(opened(stream, ended=False) + frame(RST_STREAM, 0, stream, CANCEL.to_bytes(4, "big"))):
                break
        last = connection.frames(GOAWAY)[-1]
    # ENHANCE_YOUR_CALM, unless the end of the connection overtook it.
    assert last[0] != GOAWAY or last[2][4:8] == (11).to_bytes(4, "big"), last
    assert stream < 19_999 or last[0] == GOAWAY


def test_requests_beyond_the_limit_are_refused(unharmed: Program, files: Files) -> None:
    """128 at a time; whoever opens more is reset, or hung up on."""
    with Connection(unharmed.address, trust=files.authority.trust("h2")) as connection:
        for stream in range(1, 2001, 2):
            if not connection.send(opened(stream, ended=False)):
                break
        found = connection.frames(RST_STREAM, GOAWAY)
    settings = next(payload for kind, _, payload in found if kind == SETTINGS and payload)
    assert bytes.fromhex("000300000080") in settings, "it says its limit"
    assert found[-1][0] in (RST_STREAM, GOAWAY), found[-1]


@pytest.mark.parametrize("what", ["settings", "pings", "headers without end", "empty data", "priorities", "large headers"])
def test_floods_of_frames_cost_no_memory(what: str, unharmed: Program, files: Files) -> None:
    """Whoever sends them gets as much in return, or the end of the connection."""
    opening, flood = {
        "settings": (b"", frame(SETTINGS, 0, 0, bytes.fromhex("000400010000"))),
        "pings": (b"", frame(PING, 0, 0, b"12345678")),
        # CVE-2024-27316: a block of headers that never ends.
        "headers without end": (frame(HEADERS, 0, 1, fields(HEALTH)), frame(CONTINUATION, 0, 1, fields([("x", "y" * 10_000)]))),
        "empty data": (opened(1, ended=False), frame(DATA, 0, 1)),
        "priorities": (b"", frame(2, 0, 1, bytes.fromhex("0000000010"))),
        "large headers": (b"", frame(HEADERS, END_HEADERS | END_STREAM, 1, fields([*HEALTH, ("x", "y" * 15_000)]))),
    }[what]
    with Connection(unharmed.address, trust=files.authority.trust("h2")) as connection:
        connection.send(opening)
        for _ in range(100):
            if not connection.send(flood * 100):
                break


def test_headers_beyond_the_limit_are_refused(unharmed: Program, files: Files) -> None:
    """As over HTTP/1.1: 431."""
    with Connection(unharmed.address, trust=files.authority.trust("h2")) as connection:
        large = fields([*HEALTH, *((f"x-{number}", "y" * 1000) for number in range(15)), ("z", "y" * 1500)])
        connection.send(frame(HEADERS, 0, 1, large[:16_000]))
        connection.send(frame(CONTINUATION, END_HEADERS, 1, large[16_000:]))
        found = connection.frames(HEADERS, RST_STREAM, GOAWAY)
    # A status that is not in the table of HPACK, in Huffman's code: 431.
    assert (HEADERS, 1, b"\x48\x83\x69\x90\xff") == found[-1], found


def test_an_idle_client_is_told_before_it_is_let_go(unharmed: Program, files: Files) -> None:
    """GOAWAY without an error: what it has not sent yet goes to another connection. Pings and settings keep nobody here."""
    with Connection(unharmed.address, trust=files.authority.trust("h2")) as connection:
        connection.send(opened(1))
        kind, _, payload = connection.frames(GOAWAY)[-1]
        assert (kind, payload[4:8]) == (GOAWAY, bytes(4))
        connection.send(frame(PING, 0, 0, b"12345678"))
        connection.frames()


def test_who_takes_no_answer_is_let_go(unharmed: Program, files: Files) -> None:
    """A window of nothing, and pings to show that somebody is there: the place is not theirs for ever."""
    closed = bytes.fromhex("000400000000")
    with Connection(unharmed.address, closed, trust=files.authority.trust("h2")) as connection:
        connection.send(opened(1))
        until(lambda: not connection.send(frame(PING, 0, 0, b"12345678")), "the connection ends")


def test_what_is_no_handshake_is_hung_up_on(unharmed: Program, files: Files) -> None:
    """Silence, plain HTTP, half a handshake, old versions of TLS: none keeps its place beyond the time for headers."""
    hello = bytes.fromhex("16030100a5010000a10303") + b"\x5a" * 160
    for sent in (b"", raw.request("GET", "/health", [HOST]), hello[:40], hello, b"\0" * 64):
        assert b"HTTP/1.1 200" not in raw.send(unharmed.address, sent).bytes
    old = files.authority.trust()
    with pytest.warns(DeprecationWarning):
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)), raw.connect(unharmed.address) as plain:
        old.wrap_socket(plain, server_hostname="127.0.0.1")


def test_half_headers_are_let_go(unharmed: Program, files: Files) -> None:
    """HTTP/1.1 over TLS has the limits of HTTP/1.1; a client that stops reading has one, too."""
    for trust, sent in (("http/1.1", b"GET /health HTTP/1.1\r\nX-Slow: "), ("h2", b"PRI * HTTP/2.0\r\n")):
        with files.authority.trust(trust).wrap_socket(raw.connect(unharmed.address), server_hostname="127.0.0.1") as slow:
            slow.sendall(sent)
            try:
                while slow.recv(65536):
                    pass
            except (ConnectionError, ssl.SSLError):
                pass


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"HTTP__TLS_CERT_FILE"}, "http.tls_key_file is needed"),
        ({"HTTP__TLS_KEY_FILE"}, "http.tls_cert_file"),
        ({"HTTP__TLS_CERT_FILE", "HTTP__TLS_KEY_FILE", "swapped"}, "no certificate"),
        ({"HTTP__TLS_CERT_FILE", "HTTP__TLS_KEY_FILE", "readable"}, "chmod 600"),
    ],
)
def test_files_that_cannot_be_used_are_told_before_the_start(
    given: set[str], told: str, files: Files, place: Place, tmp_path: Path
) -> None:
    """With the setting, and without a word of the key."""
    identity, paths = files.authority.identity(), [tmp_path / "cert.pem", tmp_path / "key.pem"]
    identity.save(*paths)
    if "swapped" in given:
        paths.reverse()
    if "readable" in given:
        paths[1].chmod(0o644)
    settings = dict(zip(("HTTP__TLS_CERT_FILE", "HTTP__TLS_KEY_FILE"), map(str, paths), strict=True))
    chosen = {f"BROWSERFLEET_{name}": value for name, value in settings.items() if name in given}
    ended = subprocess.run(
        [binary("browserfleet"), "serve"], env=place.environment | chosen, timeout=BOUND, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 78 and told in ended.stderr, ended
    assert identity.key.decode().splitlines()[1] not in ended.stderr

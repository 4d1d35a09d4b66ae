"""What a daemon hears that is no proper call: `docs/hardening.md`, rows G. The network between the halves is hostile, too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest

import raw
from http2 import (
    ACK, CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, GRPC, HEADERS, PING, RST_STREAM, SETTINGS, Connection, call,
    fields, frame,
)  # fmt: skip
from programs import Daemon, Place, running_daemon
from waiting import BOUND, until

POOL = "/browserfleet.v1.PoolService/"
GET_POOL = f"{POOL}GetPool"
ACQUIRE = f"{POOL}Acquire"
HEALTH = "/grpc.health.v1.Health/Check"

#: Most memory that all the misbehaviour of a test may cost at any moment.
GROWN_MAX = 64 << 20


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """One for all tests that need no other. It has no browser unless somebody gets one."""
    place = Place({"POOL__MIN_WARM": "0"})
    try:
        with running_daemon(place) as daemon:
            yield daemon
    finally:
        place.remove()


def ask(daemon: Daemon, method: str = GET_POOL, message: bytes = b"", metadata: list[tuple[str, str]] | None = None) -> bytes:
    """A proper call."""
    with grpc.insecure_channel(daemon.grpc) as channel:
        return channel.unary_unary(method)(message, timeout=BOUND, metadata=metadata)


@contextmanager
def unharmed(daemon: Daemon) -> Iterator[None]:
    """Afterwards it answers as before, holds no more descriptors, and never had much more memory."""
    held = lambda: len(os.listdir(f"/proc/{daemon.pid}/fd"))  # noqa: E731
    ask(daemon)
    before = held()
    with daemon.growing_at_most(GROWN_MAX):
        yield
    assert ask(daemon, HEALTH) == b"\x08\x01", "it is serving"
    ask(daemon)
    until(lambda: held() <= before + 1, f"descriptors are as before: {before}")
    assert daemon.browsers() == []


def test_calls_that_are_cancelled_at_once_end_the_connection(daemon: Daemon) -> None:
    """CVE-2023-44487: ten thousand streams, each reset as soon as it is open."""
    with unharmed(daemon), Connection(daemon.grpc) as connection:
        for stream in range(1, 20_001, 2):
            opened = call(stream, ACQUIRE, message=None)
            if not connection.send(opened + frame(RST_STREAM, 0, stream, CANCEL.to_bytes(4, "big"))):
                break
        kinds = [kind for kind, _, _ in connection.frames(GOAWAY)]
    # Before it would have been asked whether it is still there: what ended it is what it did.
    assert PING not in kinds and (kinds[-1:] == [GOAWAY] or stream < 19_999), (stream, kinds)


def test_streams_beyond_the_limit_are_refused(daemon: Daemon) -> None:
    """Of ten thousand that are opened and left open, 256 are; the rest is reset, or the connection is ended."""
    with unharmed(daemon), Connection(daemon.grpc) as connection:
        for stream in range(1, 20_001, 2):
            if not connection.send(call(stream, ACQUIRE, message=None)):
                break
        found = connection.frames(RST_STREAM)
        limit = next(payload for kind, _, payload in found if kind == SETTINGS and payload)
        assert bytes.fromhex("000300000100") in limit, "it says its limit: 256 streams"
        assert found[-1][0] in (RST_STREAM, GOAWAY), found[-1]


@pytest.mark.parametrize("what", ["settings", "pings", "headers without end", "empty data", "priorities"])
def test_floods_of_frames_cost_no_memory(what: str, daemon: Daemon) -> None:
    """Whoever sends them gets as much in return, or the end of the connection."""
    opening, flood = {
        "settings": (b"", frame(SETTINGS, 0, 0, bytes.fromhex("000400010000"))),
        "pings": (b"", frame(PING, 0, 0, b"12345678")),
        # CVE-2024-27316: a block of headers that never ends.
        "headers without end": (
            frame(HEADERS, 0, 1, fields(GRPC)), frame(CONTINUATION, 0, 1, fields([("x", "y" * 10_000)])),
        ),
        "empty data": (call(1, ACQUIRE, message=None), frame(DATA, 0, 1)),
        "priorities": (b"", frame(2, 0, 1, bytes.fromhex("0000000010"))),
    }[what]  # fmt: skip
    with unharmed(daemon), Connection(daemon.grpc) as connection:
        connection.send(opening)
        for _ in range(100):
            if not connection.send(flood * 100):
                break


def test_what_is_no_http_2_is_hung_up_on(daemon: Daemon) -> None:
    """Plain HTTP, TLS, and frames that are none."""
    bad = {
        "HTTP/1.1": raw.request("GET", "/", ["Host: localhost"]),
        "TLS": bytes.fromhex("16030100a5010000a10303") + b"\x5a" * 160,
        "zero bytes": b"\0" * 100,
    }
    with unharmed(daemon):
        for name, sent in bad.items():
            said = raw.send(daemon.grpc, sent)
            assert b"200" not in said.bytes, f"{name}: {said}"
        for name, sent in {
            "a frame that is too large": frame(DATA, 0, 1, b"x" * (1 << 20)),
            "data without a stream": frame(DATA, END_STREAM, 0, b"x"),
            "an even stream": frame(HEADERS, END_HEADERS, 2, fields(GRPC)),
            "headers that are none": frame(HEADERS, END_HEADERS, 1, b"\xff" * 100),
            "a window of nothing": frame(8, 0, 0, bytes(4)),
            "settings that are none": frame(SETTINGS, 0, 0, b"123"),
            "an acknowledgement of nothing": frame(PING, ACK, 0, b"12345678") + frame(SETTINGS, ACK, 5),
        }.items():
            with Connection(daemon.grpc) as connection:
                connection.send(sent)
                assert connection.frames(GOAWAY)[-1][0] == GOAWAY, name


#: Metadata, and whether the call is answered all the same.
METADATA: dict[str, tuple[bool, list[tuple[str, str | bytes]]]] = {
    "1 MiB": (False, [("x-large", "y" * (1 << 20))]),
    "5000 of them": (False, [(f"x-{n}", "y") for n in range(5000)]),
    "a line end": (False, [("x-bad", b"a\nb")]),
    "a zero byte": (False, [("x-bad", b"a\0b")]),
    "an upper-case name": (False, [("X-Bad", "a")]),
    "another pseudo header": (False, [(":principal", "root")]),
    "HTTP/1.1's": (False, [("connection", "close")]),
    "a claim that is no text": (True, [("browserfleet-claim", b"\xff\xfe")]),
    "a forged claim": (True, [("browserfleet-claim", "v1.x.y.z")]),
    "two tokens": (True, [("authorization", "Bearer x"), ("authorization", "Bearer y")]),
    "a name": (True, [("tenant", "somebody else"), ("x-principal", "root")]),
    "a deadline of years": (True, [("grpc-timeout", "99999999H")]),
    "a deadline in words": (True, [("grpc-timeout", "soon")]),
    "a negative deadline": (True, [("grpc-timeout", "-5S")]),
}


@pytest.mark.parametrize("name", METADATA)
def test_metadata_is_bounded_and_believed_only_where_it_is_signed(name: str, daemon: Daemon) -> None:
    """Without a secret nobody is asked, so what is no claim means nothing; what is no HTTP/2 ends its stream."""
    answered, headers = METADATA[name]
    with unharmed(daemon), Connection(daemon.grpc) as connection:
        connection.send(call(1, GET_POOL, *headers))
        kinds = [kind for kind, _, _ in connection.frames(DATA, RST_STREAM, GOAWAY)]
    assert answered == (kinds[-1] == DATA), kinds


def test_a_claim_that_is_none_is_not_believed(place: Place, tmp_path: Path) -> None:
    """Where there is a secret, a call without a good claim is nobody's, whatever else it says."""
    secret = tmp_path / "secret"
    secret.write_text("s" * 64)
    secret.chmod(0o600)
    place.environment |= {"BROWSERFLEET_GRPC__SECRET_FILE": str(secret), "BROWSERFLEET_POOL__MIN_WARM": "0"}
    with running_daemon(place) as daemon:
        for value in (None, "", "v1", "v1.a.b.c", "v1...", "x" * 5000, "v1.000000000000.e30.AAAA"):
            metadata = [] if value is None else [("browserfleet-claim", value)]
            with pytest.raises(grpc.RpcError) as refused:
                ask(daemon, metadata=[*metadata, ("tenant", "root"), ("authorization", "Bearer root")])
            assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED, value
        assert ask(daemon, HEALTH) == b"\x08\x01", "probes have no secret"


@pytest.mark.parametrize(
    ("method", "message", "code", "words"),
    [
        ("Acquire", b"", "INVALID_ARGUMENT", "principal"),
        ("Acquire", b"\x0a\x01p", "INVALID_ARGUMENT", "session"),
        ("Acquire", b"\x0a\x01p\x12\x01s", "INVALID_ARGUMENT", "birth"),
        ("Acquire", b"\x0a\x81\x01" + b"p" * 129 + b"\x12\x01s\x1a\x01b", "INVALID_ARGUMENT", "principal"),
        ("Acquire", b"\x0a\x01p\x12\x41" + b"s" * 65 + b"\x1a\x01b", "INVALID_ARGUMENT", "session"),
        ("Acquire", b"\x0a\x01\xff\x12\x01s\x1a\x01b", "INTERNAL", ""),
        ("Acquire", b"\x0a\xff\xff\xff\xff\x0fp", "INTERNAL", ""),
        ("Acquire", b"\xff" * 100, "INTERNAL", ""),
        ("Renew", b"", "FAILED_PRECONDITION", "not known here"),
        ("GetLease", b"", "FAILED_PRECONDITION", "not known here"),
        ("Revoke", b"\x0a\x04none", "FAILED_PRECONDITION", "ListLeases"),
        ("NoSuchMethod", b"", "UNIMPLEMENTED", ""),
        ("GetPool", b"x" * (13 << 20), "OUT_OF_RANGE", ""),
    ],
)
def test_messages_that_say_too_little_or_nonsense(
    method: str, message: bytes, code: str, words: str, daemon: Daemon
) -> None:
    """The answer names what is missing. Nothing was started for them."""
    with unharmed(daemon), grpc.insecure_channel(daemon.grpc) as channel:
        with pytest.raises(grpc.RpcError) as refused:
            list(channel.unary_stream(POOL + method)(message, timeout=BOUND))
        assert refused.value.code().name == code and words in (refused.value.details() or ""), refused.value


@pytest.mark.parametrize("message", [b"", b"\x0a\x04none", b"\x0a\x04none\x12\x05token"])
def test_what_is_over_may_be_ended_again(message: bytes, daemon: Daemon) -> None:
    """A lease that nobody has is what whoever releases it wants."""
    assert ask(daemon, f"{POOL}Release", message) == ask(daemon, f"{POOL}Release", message) == b""


def test_fields_and_values_that_nobody_knows_are_ignored(daemon: Daemon) -> None:
    """A front end may be newer than its daemon: field 1000 of a request, and a state of leases that there is none of."""
    assert ask(daemon, GET_POOL, b"\xc2\x3e\x03new")
    assert ask(daemon, f"{POOL}ListLeases", b"\xc2\x3e\x03new\x18\xe7\x07") == b""


@pytest.mark.parametrize("flag", [1, 2, 255])
def test_what_is_compressed_is_refused(flag: int, daemon: Daemon) -> None:
    """Nobody compresses here, so nothing can grow when it is unpacked."""
    with unharmed(daemon), Connection(daemon.grpc) as connection:
        connection.send(call(1, GET_POOL, ("grpc-encoding", "gzip"), message=b"\x1f\x8b" + b"\0" * 100, flag=flag))
        found = [kind for kind, stream, _ in connection.frames(HEADERS) if stream == 1]
    assert found and DATA not in found


def test_who_never_reads_keeps_nobody_waiting(daemon: Daemon) -> None:
    """A window of nothing: a hundred answers that cannot go out."""
    closed = bytes.fromhex("000400000000")
    with unharmed(daemon), ExitStack() as ends:
        for _ in range(10):
            connection = ends.enter_context(Connection(daemon.grpc, closed))
            for stream in range(1, 21, 2):
                connection.send(call(stream, GET_POOL))
        for _ in range(20):
            ask(daemon)


@pytest.mark.fleet
def test_who_says_nothing_is_let_go(daemon: Daemon) -> None:
    """Pings that nobody answers: after twice ten seconds the connection ends."""
    with Connection(daemon.grpc) as connection:
        kinds = [kind for kind, _, _ in connection.frames()]
    assert PING in kinds


def test_the_admin_port_lets_slow_clients_go(daemon: Daemon) -> None:
    """As the front end does: half a header is no reason to stay."""
    assert raw.send(daemon.address, b"GET /health HTTP/1.1\r\nX-Slow: ").status in (0, 408)
    large = raw.request("GET", "/health", ["Host: localhost", *(f"X-{n}: y" for n in range(200))])
    assert raw.send(daemon.address, large).status == 431
    both = raw.request("GET", "/health", ["Host: localhost", "Content-Length: 5", "Transfer-Encoding: chunked"], b"0\r\n\r\n")
    assert len(raw.send(daemon.address, both + raw.request("GET", "/ready", ["Host: localhost"])).statuses) == 1

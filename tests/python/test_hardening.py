"""What comes in over HTTP and is no proper request: `docs/hardening.md`, rows H. The servers are real, the bytes are our own."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

import raw
from programs import Launcher, Program
from raw import Said, posted, request, send, send_all
from waiting import until

#: Slow clients are let go soon, so that a table does not take minutes.
SETTINGS = {"HTTP__HEADER_TIMEOUT": "1s", "HTTP__BODY_TIMEOUT": "1s", "HTTP__IDLE_TIMEOUT": "1s", "POOL__MIN_WARM": "0"}

HOST = "Host: localhost"
MODERN = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}

JSON = ["Content-Type: application/json", "Accept: */*"]
CHUNKED = "Transfer-Encoding: chunked"
#: A body that is JSON and no request.
IN_CHUNKS = b"2\r\n{}\r\n0\r\n\r\n"

#: What follows a request that could be read in two ways. If it is answered, it was taken for a request.
SECOND = request("GET", "/health", [HOST])
SECOND_ANSWERED = b"uptime_seconds"

#: Requests whose end is a matter of opinion, or whose words are. Each is refused, or the connection ends; none is two requests.
AMBIGUOUS = {
    # HTTP says that chunks count, that a server must not go on after such a request, and hyper keeps to both.
    "a length and chunks": request("POST", "/mcp", [HOST, *JSON, "Content-Length: 9", CHUNKED], IN_CHUNKS),
    "chunks and a length": request("POST", "/mcp", [HOST, *JSON, CHUNKED, "Content-Length: 9"], IN_CHUNKS),
    "chunks and no length": request("POST", "/mcp", [HOST, *JSON, CHUNKED, "Content-Length: x"], IN_CHUNKS),
    "two lengths": request("POST", "/mcp", [HOST, "Content-Length: 5", "Content-Length: 6"], b"hello"),
    "lengths in a list": request("POST", "/mcp", [HOST, "Content-Length: 5, 5"], b"hello"),
    "a length with a sign": request("POST", "/mcp", [HOST, "Content-Length: +5"], b"hello"),
    "a negative length": request("POST", "/mcp", [HOST, "Content-Length: -1"], b"hello"),
    "a length in hexadecimal": request("POST", "/mcp", [HOST, "Content-Length: 0x5"], b"hello"),
    "a length beyond all numbers": request("POST", "/mcp", [HOST, "Content-Length: 99999999999999999999"], b"hello"),
    "chunks that are not last": request("POST", "/mcp", [HOST, f"{CHUNKED}, gzip"], b"0\r\n\r\n"),
    "an unknown coding": request("POST", "/mcp", [HOST, "Transfer-Encoding: xchunked"], b"0\r\n\r\n"),
    "chunks of HTTP/1.0": request("POST", "/mcp", [HOST, CHUNKED], b"0\r\n\r\n").replace(b"/1.1", b"/1.0"),
    "a header that is folded": request("POST", "/mcp", [HOST, "X: a", " Content-Length: 5"], b"hello"),
    "a folded first header": request("POST", "/mcp", [" X: a", HOST, "Content-Length: 0"]),
    "a space before the colon": request("POST", "/mcp", [HOST, "Content-Length : 5"], b"hello"),
    "a header without a name": request("POST", "/mcp", [HOST, ": x", "Content-Length: 5"], b"hello"),
    "a zero byte in a name": request("POST", "/mcp", [HOST, "X\0: a", "Content-Length: 5"], b"hello"),
    "a zero byte in a value": request("POST", "/mcp", [HOST, "X: a\0b", "Content-Length: 5"], b"hello"),
    "a carriage return in a value": request("POST", "/mcp", [HOST, "X: a\rContent-Length: 5"], b"hello"),
    "a control character in Mcp-Method": posted(b"{}", f"MCP-Protocol-Version: {MODERN}", "Mcp-Method: tools/\x01list"),
    "65 headers": request("POST", "/mcp", [HOST, *(f"X-{n}: y" for n in range(64))]),
    "101 headers": request("POST", "/mcp", [HOST, *(f"X-{n}: y" for n in range(100))]),
    "64 KiB of headers": request("POST", "/mcp", [HOST, f"X: {'y' * (64 << 10)}"]),
    "a target of 64 KiB": request("GET", f"/mcp?{'y' * (64 << 10)}", [HOST]),
    "HTTP/0.9": b"GET /health\r\n",
    "HTTP/3.0": request("GET", "/health", [HOST]).replace(b"/1.1", b"/3.0"),
    "HTTP/2 without TLS": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000"),
    "TLS": bytes.fromhex("16030100a5010000a10303") + b"\x5a" * 160,
    "zero bytes": b"\0" * 64,
}

#: Requests that do not say, in one way, whom they are for. Where they end is clear, so the connection goes on.
FOR_NOBODY = {
    "no Host": request("GET", "/health"),
    "an empty Host": request("GET", "/health", ["Host:"]),
    "two Hosts": request("GET", "/health", [HOST, HOST]),
    "a Host with a user": request("GET", "/health", ["Host: user@localhost"]),
    "a Host with a zone": request("GET", "/health", ["Host: [fe80::1%25eth0]"]),
    "a Host with a space": request("GET", "/health", ["Host: local host"]),
    "a target that is not the Host's": request("GET", "http://127.0.0.1/health", [HOST]),
    "a target without a slash": request("GET", "health", [HOST]),
}

#: Chunks that are none. The headers are in order, so that the body is what is wrong.
CHUNKS = {
    "no number": b"ZZ\r\nx\r\n0\r\n\r\n",
    "a negative size": b"-1\r\nx\r\n0\r\n\r\n",
    "a size beyond all numbers": b"fffffffffffffffff\r\nx\r\n0\r\n\r\n",
    "a chunk longer than its size": b"1\r\nxyz\r\n0\r\n\r\n",
    "no size": b"\r\nx\r\n0\r\n\r\n",
    "an endless extension": b"1;" + b"e" * (64 << 10) + b"\r\nx\r\n0\r\n\r\n",
    "endless trailers": b"0\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
    "the end of the connection": b"5\r\nab",
}

#: Bodies that are no JSON, or JSON that two readers could understand differently.
NO_JSON = {
    "nothing": b"",
    "half of it": b'{"jsonrpc":"2.0","id":1,',
    "two of them": b"{}{}",
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"jsonrpc":"2.0"}'.encode("utf-16"),
    "bytes that are no text": b'{"jsonrpc":"\xff"}',
    "an overlong encoding": b'{"jsonrpc":"\xc0\xaf"}',
    "half a character": b'{"id":"\\ud800"}',
    "no number": b'{"id":NaN}',
    "a number beyond all numbers": b'{"id":1e999}',
    "a leading zero": b'{"id":01}',
    "a key twice": b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}',
    "a key twice by another spelling": b'{"id":1,"\\u0069d":2}',
    "a key twice far down": b'{"a":[{"b":{"c":1,"c":2}}]}',
    "depth 10,000": b"[" * 10_000 + b"]" * 10_000,
    "a million brackets": b"[" * 1_000_000,
    "depth 65 in params": b'{"jsonrpc":"2.0","id":1,"method":"ping","params":' + b'{"a":' * 64 + b"1" + b"}" * 65,
    "a zero byte": b"{}\0",
    "a comment": b'{"id":1/**/}',
}

#: JSON that is no request.
NO_REQUEST = {
    "a batch": [{"jsonrpc": "2.0", "id": 1, "method": "ping"}],
    "an empty batch": [],
    "a text": "ping",
    "nothing": None,
    "no version": {"id": 1, "method": "ping"},
    "version 1": {"jsonrpc": "1.0", "id": 1, "method": "ping"},
    "version as a number": {"jsonrpc": 2.0, "id": 1, "method": "ping"},
    "an empty method": {"jsonrpc": "2.0", "id": 1, "method": ""},
    "a method that is a number": {"jsonrpc": "2.0", "id": 1, "method": 1},
    "a result beside the method": {"jsonrpc": "2.0", "id": 1, "method": "ping", "result": {}},
    "result and error": {"jsonrpc": "2.0", "id": 1, "result": {}, "error": {}},
    "params in a list": {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": [1]},
    "a request without id": {"jsonrpc": "2.0", "method": "tools/list"},
    **{
        f"the id {str(wrong)[:20]}": {"jsonrpc": "2.0", "id": wrong, "method": "ping"}
        for wrong in (None, True, 1.5, 1.0, 1e3, 2**63, -(2**63) - 1, [1], {"a": 1}, "x" * 257, "é" * 129)
    },
}

#: Ids that JSON-RPC allows: each comes back as it was.
IDS = [0, 1, -1, 2**63 - 1, -(2**63), "", "1", "a b", "é" * 128, "x" * 256, "\0\r\n", "</script>", "null"]


@contextmanager
def leaving_nothing(server: Program) -> Iterator[None]:
    """What is refused costs nothing that lasts: no session, no connection, no descriptor."""

    def held() -> tuple[Any, ...]:
        health = server.get("/health")
        counts = ("sessions", "mcp_connections", "tcp_connections", "active_calls")
        return *(health[count] for count in counts), len(os.listdir(f"/proc/{server.pid}/fd"))

    before = until(lambda: (now := held())[2] == 1 and now, "nobody else is connected")
    yield
    until(lambda: all(now <= then for now, then in zip(held(), before, strict=True)), f"all is as before: {before}")


def initialize(server: Program) -> str:
    """A legacy connection."""
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}
    said = send(server.address, posted(rpc(1, "initialize", hello)))
    assert said.status == 200, said
    return said.header("mcp-session-id") or ""


def end(server: Program, connection: str) -> None:
    """Ends a legacy connection, and with it its session."""
    headers = [HOST, f"Mcp-Session-Id: {connection}", "Connection: close"]
    assert send(server.address, request("DELETE", "/mcp", headers)).status == 204


@pytest.fixture
def connection(server: Program) -> Iterator[str]:
    """The header of a legacy connection that ends with the test."""
    id = initialize(server)
    yield f"Mcp-Session-Id: {id}"
    end(server, id)


def rpc(id: Any, method: str, params: dict[str, Any]) -> bytes:
    """A request's body."""
    return json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).encode()


def modern(id: Any, method: str, params: dict[str, Any] | None = None, name: str = "", **meta: Any) -> bytes:
    """A whole request of the modern era."""
    headers = [f"MCP-Protocol-Version: {MODERN}", f"Mcp-Method: {method}"] + ([f"Mcp-Name: {name}"] if name else [])
    return posted(rpc(id, method, {**(params or {}), "_meta": META | meta}), *headers)


def answers(table: dict[str, bytes], said: list[Said]) -> dict[str, int]:
    """What each row was answered with; nothing was taken for a second request."""
    assert not [name for name, one in zip(table, said, strict=True) if SECOND_ANSWERED in one.bytes]
    return {name: one.status for name, one in zip(table, said, strict=True)}


def test_what_can_be_read_in_two_ways_is_refused(server: Program) -> None:
    """By the first who reads it, and what follows it on the connection is nobody's request."""
    with leaving_nothing(server):
        said = send_all(server.address, (sent + SECOND for sent in AMBIGUOUS.values()))
    wrong = {name: status for name, status in answers(AMBIGUOUS, said).items() if status not in (0, 400, 403, 431)}
    assert wrong == {}


def test_a_request_names_its_host_in_one_way(server: Program) -> None:
    """Which hosts are ours is tested elsewhere (`test_foreign_hosts_are_refused`); these are nobody's."""
    with leaving_nothing(server):
        said = send_all(server.address, FOR_NOBODY.values())
    assert {name: status for name, status in answers(FOR_NOBODY, said).items() if status != 400} == {}


def test_chunks_that_are_none_are_refused(server: Program) -> None:
    """What follows them was their body, as far as anybody can know."""
    head = [*JSON, CHUNKED]
    with leaving_nothing(server):
        said = send_all(server.address, (request("POST", "/mcp", [HOST, *head], body) + SECOND for body in CHUNKS.values()))
    wrong = {name: status for name, status in answers(CHUNKS, said).items() if status not in (0, 400, 408, 413)}
    assert wrong == {}


def test_a_length_that_is_a_lie_costs_its_connection(server: Program) -> None:
    """Too short: the rest is another request, and no good one. Too long: it does not come in time."""
    short = posted(b"{}", closing=False).replace(b"Content-Length: 2", b"Content-Length: 1")
    long = posted(b"{}", closing=False).replace(b"Content-Length: 2", b"Content-Length: 3")
    large = posted(b"{}", closing=False).replace(b"Content-Length: 2", b"Content-Length: 1000000000")
    with leaving_nothing(server):
        short_said, long_said, large_said = send_all(server.address, [short + SECOND, long, large])
    assert set(short_said.statuses) == {400} and SECOND_ANSWERED not in short_said.bytes, short_said
    assert (long_said.status, large_said.status) == (408, 413)


def test_line_feeds_alone_end_lines_and_nothing_else(server: Program) -> None:
    """HTTP allows to read them so. The request has one end for everybody: its length, or an empty line."""
    sent = request("GET", "/health", [HOST, "Connection: close"]).replace(b"\r\n", b"\n")
    assert send(server.address, sent).statuses == [200]
    # A server before us that takes both lines for one header must not be made to disagree about where the body ends.
    hidden = request("POST", "/mcp", [HOST, *JSON, f"X: a\n{CHUNKED}", "Content-Length: 9"], IN_CHUNKS)
    said = send(server.address, hidden + SECOND)
    assert said.status == 400 and SECOND_ANSWERED not in said.bytes, said


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PUT", "PATCH", "post", "M-SEARCH"])
def test_methods_that_are_not_ours(method: str, server: Program) -> None:
    """They are told which there are; nobody is made a tunnel."""
    target = "example.com:443" if method == "CONNECT" else "/mcp"
    said = send(server.address, request(method, target, [HOST, "Connection: close"]))
    assert said.status in (400, 403, 405), said
    assert said.status != 405 or said.header("Allow")


@pytest.mark.parametrize("upgrade", ["websocket", "h2c"])
def test_nothing_is_upgraded(upgrade: str, server: Program) -> None:
    """The request is answered as if nobody had asked."""
    headers = [HOST, f"Upgrade: {upgrade}", "Connection: Upgrade, close", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
    assert send(server.address, request("GET", "/health", [*headers, "Sec-WebSocket-Version: 13"])).status == 200


def test_what_is_no_json_is_a_parse_error(server: Program, connection: str) -> None:
    """In both eras, by the same reader."""
    eras = ([connection], [f"MCP-Protocol-Version: {MODERN}", "Mcp-Method: ping"])
    with leaving_nothing(server):
        for headers in eras:
            said = send_all(server.address, (posted(body, *headers) for body in NO_JSON.values()))
            codes = {name: (one.status, one.json["error"]["code"]) for name, one in zip(NO_JSON, said, strict=True)}
            assert {name: code for name, code in codes.items() if code != (400, -32700)} == {}


def test_what_is_no_request_is_invalid(server: Program, connection: str) -> None:
    """In both eras. The answer names no id, or the one that was sent."""
    eras = ([connection], [f"MCP-Protocol-Version: {MODERN}", "Mcp-Method: ping"])
    with leaving_nothing(server):
        for headers in eras:
            table = {name: posted(json.dumps(message).encode(), *headers) for name, message in NO_REQUEST.items()}
            said = send_all(server.address, table.values())
            codes = {name: (one.status, one.json["error"]["code"]) for name, one in zip(table, said, strict=True)}
            assert {name: code for name, code in codes.items() if code != (400, -32600)} == {}


def test_an_id_comes_back_as_it_was(server: Program, connection: str) -> None:
    """Whichever kind it is, on one connection at the same time."""
    said = send_all(server.address, (posted(rpc(id, "ping", {}), connection) for id in IDS))
    assert [one.json["id"] for one in said] == IDS
    said = send_all(server.address, (modern(id, "tools/list") for id in IDS))
    assert [one.json["id"] for one in said] == IDS


def test_equal_ids_of_64_clients_at_once(server: Program) -> None:
    """Each gets the answer to its own request: three clients share nothing but the number, or even the connection."""
    shared = initialize(server)
    own = [initialize(server) for _ in range(64)]
    together = threading.Barrier(3 * 64, timeout=20)

    def ask(which: str, n: int) -> str:
        tool = f"nobody_{which}_{n}"
        if which == "modern":
            sent = modern(1, "tools/call", {"name": tool}, tool)
        else:
            sent = posted(rpc(1, "tools/call", {"name": tool}), f"Mcp-Session-Id: {shared if which == 'shared' else own[n]}")
        together.wait()
        return send(server.address, sent).json["error"]["message"]

    cases = [(which, n) for n in range(64) for which in ("modern", "own", "shared")]
    with ThreadPoolExecutor(len(cases)) as threads:
        told = list(threads.map(lambda case: ask(*case), cases))
    assert told == [f'Tool "nobody_{which}_{n}" not found' for which, n in cases]
    for id in [shared, *own]:
        end(server, id)


@pytest.mark.parametrize("token", [0, -1, 1.5, "", "x" * 1000, None, True, [], {}, 2**70], ids=lambda token: str(token)[:9])
def test_a_progress_token_of_any_kind_harms_nobody(token: Any, server: Program, connection: str) -> None:
    """One that is none is refused, or not there; the server is not at fault."""
    params = {"name": "session_stats", "arguments": {}, "_meta": {"progressToken": token}}
    for sent in (
        posted(rpc(1, "tools/call", params), connection),
        modern(1, "tools/call", {"name": "session_stats", "arguments": {}}, "session_stats", progressToken=token),
    ):
        assert send(server.address, sent).status in (200, 400)


def test_metadata_is_bounded_by_the_request_and_nonsense_in_it_is_dropped(server: Program) -> None:
    """A trace that cannot be understood is none."""
    nonsense = {
        "many": {f"key-{n}": "value" for n in range(10_000)},
        "no trace": {"traceparent": "garbage", "tracestate": "=" * 10_000, "baggage": "%" * 10_000},
        "a trace of zeros": {"traceparent": f"00-{'0' * 32}-{'0' * 16}-01"},
        "a trace that is too long": {"traceparent": f"00-{'a' * 3200}-{'b' * 16}-01"},
        "line ends": {"traceparent": "00-\r\nX: y\r\n-01", "tracestate": "a\0b"},
        "other types": {"traceparent": {"a": 1}, "tracestate": [1], "baggage": 7},
    }
    for name, meta in nonsense.items():
        said = send(server.address, modern(1, "tools/call", {"name": "session_stats"}, "session_stats", **meta))
        assert said.status in (200, 400), f"{name}: {said}"
        assert name == "other types" or said.json["result"]["isError"] is False, f"{name}: {said}"
    headers = ["traceparent: garbage", f"tracestate: {'=' * 5000}", f"baggage: {'%' * 5000}"]
    assert send(server.address, request("GET", "/health", [HOST, "Connection: close", *headers])).status == 200


def test_nobody_gets_events_of_another_connection_by_their_id(server: Program, connection: str) -> None:
    """There is nothing to be had again: events have no ids, and `Last-Event-ID` means nothing."""
    events = "Accept: text/event-stream"
    with ExitStack() as ends:
        for last in ("1", "0/0", connection.split()[1], "\xff"):
            stream = ends.enter_context(raw.connect(server.address))
            stream.sendall(request("GET", "/mcp", [HOST, connection, events, f"Last-Event-ID: {last}"]))
            said = b""
            while b": open\n\n" not in said:
                said += stream.recv(65536)
            assert b"data:" not in said and b"id:" not in said.split(b"\r\n\r\n", 1)[1], said


def test_slow_clients_keep_nobody_out_for_long(launch: Launcher) -> None:
    """They hold every place for as long as headers may take; whoever comes meanwhile is told when to come back."""
    program = launch(HTTP__MAX_CONNECTIONS="16", HTTP__HEADER_TIMEOUT="3s", POOL__MIN_WARM="0")
    get = request("GET", "/health", [HOST, "Connection: close"])
    with ExitStack() as ends:
        for _ in range(16):
            ends.enter_context(raw.connect(program.address)).sendall(b"POST /mcp HTTP/1.1\r\nX-Slow: ")
        refused = until(lambda: (said := send(program.address, get)).status == 503 and said, "every place is taken")
        assert refused.header("Retry-After") == "1"
        until(lambda: send(program.address, get).status == 200, "the slow ones are let go")


def test_rejected_requests_leave_nothing(server: Program) -> None:
    """Clients that are refused come again and again. A hundred times each way leaves what there was before."""
    foreign = "Mcp-Session-Id: 0123456789abcdef0123456789abcdef"
    rejected = [
        posted(b"{"),
        posted(b"[]"),
        posted(rpc(1, "initialize", {})),
        posted(rpc(1, "initialize", {"protocolVersion": 1})),
        posted(rpc(1, "ping", {}), foreign),
        posted(rpc(1, "tools/call", {"name": "browser_open", "arguments": {}}), foreign),
        request("GET", "/mcp", [HOST, "Accept: text/event-stream", foreign, "Connection: close"]),
        request("DELETE", "/mcp", [HOST, foreign, "Connection: close"]),
        posted(rpc(1, "ping", {}), "Origin: https://evil.example"),
        modern(1, "tools/call", {"name": "browser_snapshot", "arguments": {}}, "browser_snapshot"),
        modern(1, "tools/call", {"name": "browser_navigate", "arguments": {"url": 5}}, "browser_navigate"),
        modern(1, "tools/call", {"name": "browser_navigate", "arguments": {}}, "browser_navigate"),
        modern(1, "tools/call", {"name": "browser_open", "arguments": {"width": -1}}, "browser_open"),
        modern(1, "no/such/method"),
    ]
    with leaving_nothing(server):
        for _ in range(10):
            said = send_all(server.address, rejected * 10)
            assert all(one.status and b'"session_id"' not in one.bytes for one in said)
    assert server.browsers() == [], "no browser was started for any of them"

"""Traces: one call is one trace, from the client's own span to every command to Chromium, over all programs."""

from __future__ import annotations

import json
import re
import secrets
import urllib.request
from typing import Any

from collector import Collector, Span, collecting
from fleet import Fleet, running
from pages import Pages
from waiting import BOUND, until

#: What no trace may hold: neither what agents type nor where they go.
CANARY = f"canary{secrets.token_hex(8)}"


def call(mcp: str, tool: str, arguments: dict[str, Any], meta: dict[str, str], headers: dict[str, str]) -> Any:
    """One call of a modern client, with whatever it says of its trace."""
    params = {
        "name": tool,
        "arguments": arguments,
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            **meta,
        },
    }
    request = urllib.request.Request(
        mcp,
        json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode(),
        {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": "2026-07-28",
            "Mcp-Method": "tools/call",
            "Mcp-Name": tool,
            **headers,
        },
    )
    with urllib.request.urlopen(request, timeout=2 * BOUND) as answer:
        body = answer.read().decode()
    data = [line.removeprefix("data: ") for line in body.splitlines() if line.startswith("data: {")]
    return json.loads(data[-1] if data else body)["result"]


def trace() -> tuple[str, str, str]:
    """A client's span: its trace, its id, and how both are said."""
    number, span = secrets.token_hex(16), secrets.token_hex(8)
    return number, span, f"00-{number}-{span}-01"


def arrived(collector: Collector, number: str, client: str, name: str) -> list[Span]:
    """The spans of a trace, once this one and every one above it are among them: programs send theirs when it suits them."""
    def there() -> bool:
        spans = collector.of(number)
        ids = {span.id for span in spans} | {client}
        return name in {span.name for span in spans} and all(span.parent in ids for span in spans)

    until(there, f"{name} has arrived: {collector.of(number)}", 2 * BOUND)
    return collector.of(number)


def test_a_call_is_one_trace_from_the_client_to_chromium(pages: Pages) -> None:
    """By `_meta` and by header; over HTTP, gRPC and the pipe; with the numbers that logs and metrics show, and no content."""
    with collecting() as collector, running(daemons=1, front_ends=1, TRACES__ENDPOINT=collector.endpoint, LOG__FORMAT="json") as fleet:
        number, client, said = trace()
        url = f"{pages.at('/')}?{CANARY}"
        opened = call(fleet.mcp, "browser_navigate", {"url": url}, {"traceparent": said}, {})
        session = opened["structuredContent"]["session_id"]
        spans = arrived(collector, number, client, "Page.navigate")
        by_id, by_name = {span.id: span for span in spans}, {span.name: span for span in spans}

        def way(span: Span) -> list[tuple[str, str]]:
            above = [(span.program, span.name)]
            while span.parent in by_id:
                span = by_id[span.parent]
                above.append((span.program, span.name))
            assert span.parent == client, spans
            return above[::-1]

        assert way(by_name["Page.navigate"]) == [
            ("mcp-frontend", "tools/call browser_navigate"),
            ("mcp-frontend", "BrowserService/CallTool"),
            ("pool-daemon", "run the tool"),
            ("pool-daemon", "Page.navigate"),
        ]
        assert way(by_name["grant a lease"])[:2] == [
            ("mcp-frontend", "tools/call browser_navigate"),
            ("mcp-frontend", "ensure a lease"),
        ]
        root = by_name["tools/call browser_navigate"]
        assert root.attributes["browserfleet.outcome"] == "ok" and not root.failed
        assert all(not span.failed for span in spans)

        # What logs and metrics say leads to it.
        front_end = fleet.front_ends[0]
        lines = [json.loads(line) for line in front_end.place.read_log().splitlines() if line.startswith("{")]
        [line] = [line for line in lines if line["fields"].get("message") == "call"]
        assert line["fields"]["trace"] == number
        with urllib.request.urlopen(f"http://{front_end.address}/metrics", timeout=BOUND) as answer:
            metrics = answer.read().decode()
        assert re.search(rf'browserfleet_call_duration_seconds_bucket.*browser_navigate.*# {{trace_id="{number}"}}', metrics)

        # A call that fails is marked; a header says the same as `_meta`.
        number, client, said = trace()
        arguments = {"session_id": session, "function": f"() => {{ throw new Error('{CANARY}') }}"}
        assert call(fleet.mcp, "browser_evaluate", arguments, {}, {"traceparent": said})["isError"]
        [root] = [s for s in arrived(collector, number, client, "Runtime.evaluate") if s.name.startswith("tools/call")]
        assert root.failed and root.attributes["browserfleet.outcome"] == "script_error"
        assert CANARY.encode() not in collector.raw and session.encode() not in collector.raw
        call(fleet.mcp, "session_close", {"session_id": session}, {}, {})


def visit(fleet: Fleet, pages: Pages, traceparent: str) -> None:
    """A session with one call that must succeed."""
    result = call(fleet.mcp, "browser_navigate", {"url": pages.at("/")}, {"traceparent": traceparent}, {})
    assert not result.get("isError"), result
    session = result["structuredContent"]["session_id"]
    call(fleet.mcp, "session_close", {"session_id": session}, {"traceparent": traceparent}, {})


def test_only_a_share_is_recorded_and_calls_go_on_without_a_collector(pages: Pages) -> None:
    """Whatever the client says; and nobody waits for a collector that is not there."""
    with collecting() as collector:
        with running(daemons=1, front_ends=1, TRACES__ENDPOINT=collector.endpoint, TRACES__PERCENT="0") as fleet:
            number, _, said = trace()
            visit(fleet, pages, said)
        assert collector.of(number) == []
    with running(daemons=1, front_ends=1, TRACES__ENDPOINT=collector.endpoint) as fleet:
        visit(fleet, pages, trace()[2])

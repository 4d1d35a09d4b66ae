"""What operators and browsers see of the server: health, sessions, and who is refused."""

from __future__ import annotations

import anyio
import httpx2
import pytest

from clients import HTTP, Connector
from pages import Pages
from programs import Launcher, Program
from waiting import eventually

#: What every request to `/mcp` may carry; a body that is a proper first message.
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}},
}
ACCEPT = {"Accept": "application/json, text/event-stream"}


def test_health_says_that_it_lives_and_how_busy_it_is(server: Program) -> None:
    """For probes and people; it does not depend on browsers."""
    health = server.get("/health")
    assert health["status"] == "ok" and health["version"]
    assert all(health[count] >= 0 for count in ("uptime_seconds", "sessions", "mcp_connections", "active_calls"))


def test_ready_says_that_it_can_serve(server: Program) -> None:
    """For load balancers."""
    daemons = {"total": 1, "in_service": 1}
    assert server.get("/ready") == {"ready": True, "stopping": False, "pool": True, "store": True, "daemons": daemons}


def test_metrics_count_what_the_pool_does(server: Program) -> None:
    """For Prometheus: the front end's page is the process's, so it has the pool's counts here."""
    page = httpx2.get(f"http://{server.address}/metrics")
    assert page.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert page.text.endswith("# EOF\n")


@pytest.mark.parametrize("kind", HTTP)
async def test_who_waits_for_a_browser_hears_its_place(kind: str, launch: Launcher) -> None:
    """As progress, while the call goes on; then the call succeeds."""
    heard: list[str | None] = []

    async def says_so(progress: float, total: float | None, message: str | None) -> None:
        heard.append(message)

    connect = Connector(launch("--max-browsers=1").mcp)
    async with connect(kind) as holder, connect(kind) as late:
        await holder.ok("browser_open")

        async def wait() -> None:
            assert not (await late.call("browser_open", progress=says_so)).is_error

        async with anyio.create_task_group() as calls:
            calls.start_soon(wait)
            await eventually(lambda: heard, "the place is told")
            await holder.ok("session_close")
            holder.session = None
    assert heard[0] == "Waiting for a browser: place 1 of 1"


@pytest.mark.parametrize("kind", HTTP)
async def test_sessions_are_listed_without_their_handles(kind: str, connect: Connector, server: Program) -> None:
    """Who, since when, and how long idle; whoever reads it must not be able to use a session."""
    async with connect(kind) as agent:
        handle = (await agent.ok("browser_open")).structured["session_id"]
        overview = server.get("/sessions")
        assert (overview["total"], overview["with_browser"], overview["next_offset"]) == (1, 1, None)
        assert 0 <= overview["newest_age_seconds"] <= overview["average_age_seconds"] <= overview["oldest_age_seconds"]
        [session] = overview["sessions"]
        assert 0 <= session["idle_seconds"] <= session["age_seconds"] and session["expires_in_seconds"] > 0
        assert session["client"]["name"] and session["client"]["version"] and session["user_agent"]
        assert (session["connection"] is not None) == kind.endswith("legacy")
        assert handle not in str(overview)


@pytest.mark.parametrize("kind", HTTP)
async def test_a_client_that_leaves_leaves_nothing(
    kind: str, connect: Connector, server: Program, pages: Pages
) -> None:
    """Session and connection are gone, without waiting for any timeout."""
    async with connect(kind) as agent:
        await agent.ok("browser_navigate", url=pages.at("/"))
        assert server.get("/health")["sessions"] == 1
    health = server.get("/health")
    assert (health["sessions"], health["mcp_connections"], health["active_calls"]) == (0, 0, 0)
    await eventually(lambda: len(server.browsers()) == 1, "the session's browser is gone, the warm one is there")


@pytest.mark.parametrize("path", ["/mcp", "/health", "/ready", "/metrics", "/sessions"])
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "127.0.0.2"])
def test_foreign_hosts_are_refused(host: str, path: str, server: Program) -> None:
    """A page whose name has been rebound to this address must not get in."""
    answer = post(server, path, {"Host": host})
    assert answer.status_code == 403 and "allowed_hosts" in answer.text


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "HTTP://LOCALHOST"])
def test_foreign_origins_are_refused(origin: str, server: Program) -> None:
    """Pages in the user's own browser are not agents."""
    answer = post(server, "/mcp", {"Origin": origin})
    assert answer.status_code == 403 and "allowed_origins" in answer.text


def test_its_own_origin_is_let_in(server: Program) -> None:
    """So the refusals above are about the origin and nothing else."""
    assert post(server, "/mcp", {"Origin": f"http://{server.address}"}).status_code == 200
    assert post(server, "/mcp", {}).status_code == 200


def test_a_body_that_is_too_large_is_refused(server: Program) -> None:
    """Memory is bounded, whatever is sent."""
    large = httpx2.post(server.mcp, content=b" " * (2 << 20), headers=ACCEPT | {"Content-Type": "application/json"})
    assert large.status_code == 413


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"a":1,"a":2}', b"\xff", b"[" * 100_000])
def test_what_is_not_a_message_is_refused(body: bytes, server: Program) -> None:
    """And the server goes on."""
    answer = httpx2.post(server.mcp, content=body, headers=ACCEPT | {"Content-Type": "application/json"})
    assert answer.status_code == 400 and answer.json()["error"]["code"] in (-32700, -32600)
    assert server.get("/health")["status"] == "ok"


def test_an_unknown_connection_is_not_found(server: Program) -> None:
    """A legacy client knows by it that it has to start afresh."""
    headers = ACCEPT | {"Mcp-Session-Id": "0" * 32, "MCP-Protocol-Version": "2025-11-25"}
    for method in ("GET", "DELETE"):
        assert httpx2.request(method, server.mcp, headers=headers).status_code == 404
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    assert httpx2.post(server.mcp, json=ping, headers=headers).status_code == 404


def post(server: Program, path: str, headers: dict[str, str]) -> httpx2.Response:
    """A proper first message, but for the headers. The connection it may make is closed again."""
    url = f"http://{server.address}{path}"
    answer = httpx2.post(url, json=INITIALIZE, headers=ACCEPT | headers)
    if connection := answer.headers.get("Mcp-Session-Id"):
        httpx2.delete(url, headers={"Mcp-Session-Id": connection})
    return answer

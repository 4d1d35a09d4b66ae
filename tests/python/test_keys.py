"""API keys, and the secrets between our programs, as operators and agents use them."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.subscriptions import ToolsListChanged

from clients import HTTP, Connector
from pages import Pages
from programs import Place, Program, binary, free_address, serve
from waiting import BOUND, until

ALL = "browser:read,browser:act,browser:evaluate,browser:files"


class Keys:
    """A file of keys, changed by the program's own commands."""

    def __init__(self, place: Place) -> None:
        self.file = place.directory / "keys.json"
        self._environment = place.environment

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs `browserfleet keys …`."""
        command = [binary("browserfleet"), "keys", *arguments, "--keys", str(self.file)]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=30, check=False)

    def create(self, name: str, scopes: str = ALL, *more: str) -> str:
        """A new key, as it is shown once."""
        made = self.command("create", "--name", name, "--scopes", scopes, *more)
        assert made.returncode == 0, made
        [key] = made.stdout.splitlines()
        return key


    def restrict(self, name: str, groups: list[str]) -> None:
        """Leaves a key these groups of tools, as an operator would by hand."""
        kept = json.loads(self.file.read_text())
        [key] = [key for key in kept["keys"] if key["name"] == name]
        key["groups"] = groups
        self.file.write_text(json.dumps(kept))


@pytest.fixture
def keys(place: Place) -> Keys:
    """No keys yet."""
    return Keys(place)


@pytest.fixture
def guarded(place: Place, keys: Keys) -> Iterator[Program]:
    """A server that asks for keys and logs everything it can."""
    keys.create("first", "admin")
    place.environment["BROWSERFLEET_LOG__LEVEL"] = "trace"
    # The pages are on this machine.
    place.environment["BROWSERFLEET_EGRESS__NETWORK"] = "local"
    program = serve(place, "--keys", str(keys.file))
    try:
        yield program
        program.send(15)
        assert program.wait() == 0, place.read_log()
    finally:
        program.destroy()


def until_known(server: Program, key: str, status: int = 200) -> None:
    """The server reads the file again within a second."""
    headers = {"Authorization": f"Bearer {key}"}
    url = f"http://{server.address}/sessions"
    until(lambda: httpx2.get(url, headers=headers).status_code == status, f"{status} for a key")


async def test_a_key_goes_where_it_may(guarded: Program, keys: Keys, pages: Pages) -> None:
    """The origins of a key hold, whatever its session asks for."""
    narrow = keys.create("narrow", ALL, "--allow-origin", "*.example.com")
    barred = keys.create("barred", ALL, "--block-origin", "127.0.0.1")
    until_known(guarded, barred)
    for key, words in ((narrow, "origins that your API key allows"), (barred, "origins that your API key blocks")):
        async with Connector(guarded.mcp, key=key)("http-modern") as agent:
            await agent.ok("browser_open", allowed_origins=["*"])
            refused = await agent.call("browser_navigate", url=pages.at("/"))
            assert refused.code == "url_blocked" and words in refused.text, refused


@pytest.mark.parametrize("kind", [*HTTP, "fastmcp"])
async def test_two_keys_are_two_worlds(kind: str, guarded: Program, keys: Keys, pages: Pages) -> None:
    """What one key opened is unknown to the other, over real clients of both eras; the owner goes on."""
    one, other = keys.create("one"), keys.create("other")
    until_known(guarded, one)
    until_known(guarded, other)
    async with Connector(guarded.mcp, key=one)(kind) as mine, Connector(guarded.mcp, key=other)(kind) as theirs:
        await mine.ok("browser_navigate", url=pages.at("/set?who=one"))
        handle = (await mine.ok("browser_open")).structured["session_id"]
        for tool, arguments in {"browser_snapshot": {}, "browser_evaluate": {"function": "() => 1"}, "session_close": {}}.items():
            foreign = await theirs.call(tool, session_id=handle, **arguments)
            unknown = await theirs.call(tool, session_id="bs_" + "0" * 32, **arguments)
            assert foreign == unknown and foreign.code == "handle_unknown_or_expired"
        listed = await theirs.ok("session_list")
        assert handle not in listed.text + str(listed.structured)
        assert handle in (await mine.ok("session_list")).text
        assert await mine.evaluate("() => document.cookie") == "who=one"


@pytest.mark.parametrize("kind", HTTP)
async def test_a_scope_limits_what_is_shown_and_done(kind: str, guarded: Program, keys: Keys, pages: Pages) -> None:
    """A key for looking goes to pages and reads them; it runs no scripts."""
    key = keys.create("reader", "browser:read", "--groups", "core")
    until_known(guarded, key)
    async with Connector(guarded.mcp, key=key)(kind) as agent:
        tools = await agent.tools()
        assert "browser_navigate" in tools
        assert not {"browser_click", "browser_evaluate", "browser_file_upload", "session_list"} & set(tools)
        await agent.ok("browser_navigate", url=pages.at("/"))
        refused = await agent.call("browser_evaluate", function="() => 1")
        assert refused.code == "forbidden" and "browser:evaluate" in refused.text
        agent.session = None  # The group that ends sessions is not the key's either.


async def test_clients_that_listen_hear_that_their_key_allows_other_tools(guarded: Program, keys: Keys) -> None:
    """Those of the modern era where they subscribed, the others on the stream they open by themselves."""
    key = keys.create("narrowed", ALL)
    until_known(guarded, key)
    heard: list[str] = []

    async def hear(message: Any) -> None:
        heard.append(message.method)

    async with create_mcp_http_client({"Authorization": f"Bearer {key}"}) as http:
        modern = Client(streamable_http_client(guarded.mcp, http_client=http))
        legacy = Client(streamable_http_client(guarded.mcp, http_client=http), mode="legacy", message_handler=hear)
        async with modern, legacy, modern.listen(tools_list_changed=True) as changes:
            before = {tool.name for tool in (await modern.list_tools()).tools}
            keys.restrict("narrowed", ["core"])
            with anyio.fail_after(BOUND):
                assert await anext(aiter(changes)) == ToolsListChanged()
            after = {tool.name for tool in (await modern.list_tools()).tools}
            assert after < before and "session_list" in before - after
            # The client does not say when it has opened its stream: what changed before is not told again.
            groups = itertools.cycle([["core", "session"], ["core"]])
            until_told = time.monotonic() + BOUND
            while "notifications/tools/list_changed" not in heard:
                assert time.monotonic() < until_told, heard
                keys.restrict("narrowed", next(groups))
                await anyio.sleep(1)


@pytest.mark.parametrize("kind", [*HTTP, "fastmcp"])
async def test_clients_without_a_key_are_told(kind: str, guarded: Program) -> None:
    """As an error of the connection, not as a hanging one."""
    with pytest.raises(MCPError, match="error response"):
        async with Connector(guarded.mcp)(kind):
            pass


def test_keys_are_shown_once_listed_rotated_and_revoked(guarded: Program, keys: Keys) -> None:
    """A revoked key is out within a second; a rotated one keeps its owner."""
    key = keys.create("ci", ALL, "--max-sessions", "10", "--max-calls", "8", "--max-queue", "4", "--expires", "30d")
    listed = keys.command("list").stdout
    secret = key.rsplit("_", 1)[1]
    assert secret not in listed + keys.file.read_text()
    [line] = [line for line in listed.splitlines() if line.startswith("ci ")]
    assert ALL in line and line.split()[4:7] == ["10", "8", "4"]
    until_known(guarded, key)
    rotated = keys.command("rotate", "ci").stdout.strip()
    until_known(guarded, rotated)
    until_known(guarded, key, 401)
    assert keys.command("revoke", "ci").returncode == 0
    until_known(guarded, rotated, 401)
    again = keys.command("revoke", "ci")
    assert again.returncode == 1 and "keys list" in again.stderr


async def test_no_secret_is_logged_or_counted(guarded: Program, keys: Keys, place: Place) -> None:
    """Good keys, bad keys, keys in URLs: none of them is anywhere but with its owner, at the most talkative level."""
    good, operator = keys.create("good"), keys.create("operator", "admin")
    until_known(guarded, good)
    until_known(guarded, operator)
    canary = "bf_0123456789ab_c0ffee00c0ffee00c0ffee00c0ffee00"
    said = ""
    for key in (good, canary):
        for url in (guarded.mcp, f"{guarded.mcp}?access_token={key}", f"http://{guarded.address}/sessions?q={key}"):
            for headers in ({"Authorization": f"Bearer {key}"}, {"Authorization": key}, {}):
                said += httpx2.post(url, json={"jsonrpc": "2.0", "id": 1, "method": "ping"}, headers=headers).text
    async with Connector(guarded.mcp, key=good)("http-modern") as agent:
        await agent.ok("browser_open")
    admin = {"Authorization": f"Bearer {operator}"}
    metrics = httpx2.get(f"http://{guarded.address}/metrics", headers=admin).text
    assert 'browserfleet_unauthenticated_requests_total{reason="bad_token"}' in metrics
    # Everything is logged, or this says nothing.
    until(lambda: "egress gate closed" in place.log.read_text(errors="replace"), "the end of a browser is logged")
    log = place.log.read_text(errors="replace")
    for key in (good, operator, canary):
        assert key.rsplit("_", 1)[1] not in log + said + metrics


def test_a_file_for_everybody_is_refused(place: Place, keys: Keys) -> None:
    """At the start; a file that becomes one later changes nothing and is said."""
    keys.create("first")
    keys.file.chmod(0o644)
    command = [binary("browserfleet"), "serve", "--listen", free_address(), "--keys", str(keys.file)]
    refused = subprocess.run(command, env=place.environment, capture_output=True, text=True, timeout=30, check=False)
    assert refused.returncode == 78 and "chmod 600" in refused.stderr, refused


async def test_who_serves_others_keeps_them_from_this_machine(place: Place, keys: Keys, pages: Pages) -> None:
    """With keys there are others, on whatever address: perhaps behind a proxy on this machine."""
    key = keys.create("one")
    program = serve(place, "--keys", str(keys.file))
    try:
        async with Connector(program.mcp, key=key)("http-modern") as agent:
            refused = await agent.call("browser_navigate", url=pages.at("/"))
            assert refused.code == "url_blocked" and "an address of this machine" in refused.text, refused
        program.send(15)
        assert program.wait() == 0, place.read_log()
    finally:
        program.destroy()


def secret_file(place: Place, name: str) -> Path:
    """A secret nobody else can read."""
    path = place.directory.with_suffix(f".{name}")
    path.write_text(os.urandom(32).hex() + "\n")
    path.chmod(0o600)
    return path


async def test_the_halves_know_each_other_by_a_secret(place: Place, pages: Pages) -> None:
    """With it a front end works; one without it is told apart from a daemon that is away, and gets no browser."""
    secret, token = secret_file(place, "secret"), secret_file(place, "token")
    grpc, admin, address, stranger = (free_address() for _ in range(4))
    environment = place.environment
    environment["BROWSERFLEET_GRPC__SECRET_FILE"] = str(secret)
    environment["BROWSERFLEET_GRPC__OPERATOR_TOKEN_FILE"] = str(token)
    # The pages are on this machine.
    environment["BROWSERFLEET_EGRESS__NETWORK"] = "local"
    programs: list[Program] = []

    def start(name: str, arguments: list[str], ready_at: str) -> Program:
        programs.append(Program(name, arguments, place, address, ready_at=ready_at))
        return programs[-1]

    try:
        start("pool-daemon", ["--listen", grpc, "--admin-listen", admin], admin)
        front_end = start("mcp-frontend", ["--listen", address, "--pool", f"http://{grpc}"], address)
        async with Connector(front_end.mcp)("http-modern") as agent:
            assert "Page URL" in (await agent.ok("browser_navigate", url=pages.at("/"))).text
        del environment["BROWSERFLEET_GRPC__SECRET_FILE"]
        del environment["BROWSERFLEET_GRPC__OPERATOR_TOKEN_FILE"]
        start("mcp-frontend", ["--listen", stranger, "--pool", f"http://{grpc}"], "")
        until(lambda: _status(f"http://{stranger}/ready") == 503, "it serves, and is not ready")
        async with Connector(f"http://{stranger}/mcp")("http-modern") as agent:
            refused = await agent.call("browser_navigate", url=pages.at("/"))
            assert refused.code == "internal" and "not set up right" in refused.text
        log = place.log.read_text(errors="replace")
        assert "grpc.secret_file" in log and secret.read_text().strip() not in log
        _assert_only_operators_look(admin, token.read_text().strip())
    finally:
        for program in reversed(programs):
            program.destroy()
        secret.unlink()
        token.unlink()


def _assert_only_operators_look(admin: str, token: str) -> None:
    """Who has no token learns that the daemon lives and wants work: enough for a probe."""
    operator = {"Authorization": f"Bearer {token}"}
    assert _json(f"http://{admin}/health") == {"status": "ok"} and _json(f"http://{admin}/ready") == {"ready": True}
    assert "browsers" in _json(f"http://{admin}/health", operator) and "store" in _json(f"http://{admin}/ready", operator)
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": token}):
        assert _status(f"http://{admin}/metrics", headers) == 401
    assert _status(f"http://{admin}/metrics", operator) == 200


def _json(url: str, headers: dict[str, str] | None = None) -> dict[str, object]:
    return httpx2.get(url, headers=headers).json()


def _status(url: str, headers: dict[str, str] | None = None) -> int:
    try:
        return httpx2.get(url, headers=headers).status_code
    except httpx2.TransportError:
        return 0

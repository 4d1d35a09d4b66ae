"""Access tokens, as agents and operators use them: real clients, the real program, an issuer on this machine."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from clients import HTTP, Agent, Connector
from issuer import CLIENT, SECRET, Issuer
from pages import Pages
from programs import Place, Program, binary, free_address
from waiting import until

ALL = "browser:read browser:act browser:evaluate browser:files"


def settings(place: Place, issuer: Issuer, address: str, **more: str) -> None:
    """What an operator sets so that tokens of an issuer are good."""
    environment = {
        "OAUTH__ISSUER": issuer.url,
        "HTTP__PUBLIC_URL": f"http://{address}",
        # The pages are on this machine.
        "EGRESS__NETWORK": "local",
        "LOG__LEVEL": "trace",
        **more,
    }
    place.environment |= {f"BROWSERFLEET_{name}": value for name, value in environment.items()}


def start(place: Place, address: str) -> Program:
    """`browserfleet serve` there."""
    return Program("browserfleet", ["serve", "--listen", address], place, address, ready_at=address)


def end(program: Program, place: Place) -> None:
    """As an operator ends it."""
    program.send(15)
    assert program.wait() == 0, place.read_log()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """Without TLS, which is for this machine only."""
    issuer = Issuer()
    yield issuer
    issuer.close()


class Nothing:
    """Keeps no tokens."""

    async def get_tokens(self) -> None:
        """None yet."""

    async def set_tokens(self, tokens: Any) -> None:
        """The client has it in memory."""

    async def get_client_info(self) -> None:
        """It is given."""

    async def set_client_info(self, info: Any) -> None:
        """It is given."""


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_finds_its_own_way_to_a_token(mode: str, place: Place, issuer: Issuer, pages: Pages) -> None:
    """From the refusal to this server's metadata, from there to the issuer's, and back with a token for this server."""
    address = free_address()
    settings(place, issuer, address)
    program = start(place, address)
    try:
        auth = ClientCredentialsOAuthProvider(program.mcp, Nothing(), CLIENT, SECRET, issuer=issuer.url)
        async with create_mcp_http_client(auth=auth) as http:
            async with Client(streamable_http_client(program.mcp, http_client=http), mode=mode) as client:
                agent = Agent(client)
                assert "Page URL" in (await agent.ok("browser_navigate", url=pages.at("/"))).text
                assert await agent.evaluate("() => 6 * 7") == 42
                await agent.ok("session_close")
        assert [(grant["resource"], grant["scope"]) for grant in issuer.grants] == [(program.mcp, ALL)]
        end(program, place)
    finally:
        program.destroy()


@pytest.mark.parametrize("kind", [*HTTP, "fastmcp"])
async def test_a_token_over_tls_and_what_it_allows(kind: str, place: Place, pages: Pages) -> None:
    """The keys come over TLS, from an issuer whose authority the operator names. Other subjects are other worlds, and no token is
    in the log."""
    issuer, address = Issuer(place.directory), free_address()
    settings(place, issuer, address, OAUTH__CA_FILE=str(issuer.authority))
    program = start(place, address)
    try:
        narrow = issuer.token(program.mcp, "browser:read", browserfleet={"groups": ["core"], "sessions": 1})
        tokens = [issuer.token(program.mcp, ALL, "one"), issuer.token(program.mcp, ALL, "other"), narrow]
        one, other, reader = (Connector(program.mcp, key=token) for token in tokens)
        async with one(kind) as mine, other(kind) as theirs, reader(kind) as looker:
            await mine.ok("browser_navigate", url=pages.at("/set?who=one"))
            handle = (await mine.ok("browser_open")).structured["session_id"]
            assert (await theirs.call("browser_snapshot", session_id=handle)).code == "handle_unknown_or_expired"
            assert await mine.evaluate("() => document.cookie") == "who=one"
            tools = await looker.tools()
            assert "browser_navigate" in tools and not {"browser_click", "session_list"} & set(tools)
        headers = {"Authorization": f"Bearer {issuer.token(program.mcp, ALL, exp=1)}"}
        refused = httpx2.post(program.mcp, json={}, headers=headers)
        assert refused.status_code == 401 and "invalid_token" in refused.headers["www-authenticate"]
        end(program, place)
        log = place.log.read_text(errors="replace")
        assert "an access token is not good" in log, "everything is logged"
        for token in [*tokens, headers["Authorization"].removeprefix("Bearer ")]:
            assert token not in log and token.rsplit(".", 1)[1] not in log
    finally:
        program.destroy()
        issuer.close()


def test_an_issuer_that_nobody_vouches_for_is_not_believed(place: Place) -> None:
    """Its tokens cannot be checked, which is no fault of theirs; the operator reads why."""
    issuer, address = Issuer(place.directory), free_address()
    settings(place, issuer, address)
    program = start(place, address)
    try:
        headers = {"Authorization": f"Bearer {issuer.token(program.mcp, ALL)}"}
        answer = httpx2.post(program.mcp, json={}, headers=headers)
        assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0
        assert issuer.asked == 0
        until(lambda: "TLS failed" in place.log.read_text(errors="replace"), "the log says why")
        end(program, place)
    finally:
        program.destroy()
        issuer.close()


def test_keys_that_do_not_come_over_tls_are_not_believed(place: Place, issuer: Issuer) -> None:
    """Whoever speaks for an issuer elsewhere cannot have this machine's own programs vouch for tokens."""
    far, address = Issuer(place.directory), free_address()
    far.keys_url = issuer.url.replace("/realms/main", "/keys")
    settings(place, far, address, OAUTH__CA_FILE=str(far.authority))
    program = start(place, address)
    try:
        headers = {"Authorization": f"Bearer {issuer.token(program.mcp, ALL, iss=far.url)}"}
        assert httpx2.post(program.mcp, json={}, headers=headers).status_code == 503
        assert issuer.asked == 0
        until(lambda: "is not over TLS" in place.log.read_text(errors="replace"), "the log says why")
        end(program, place)
    finally:
        program.destroy()
        far.close()


def test_a_new_key_is_found_by_its_first_token(place: Place, issuer: Issuer) -> None:
    """And the old one is over, without a restart."""
    address = free_address()
    settings(place, issuer, address, OAUTH__REFETCH="1s")
    program = start(place, address)

    def status(token: str) -> int:
        url = f"http://{program.address}/sessions"
        return httpx2.get(url, headers={"Authorization": f"Bearer {token}"}).status_code

    try:
        old = issuer.token(program.mcp, ALL)
        until(lambda: status(old) == 200, "the old key is known")
        issuer.rotate()
        until(lambda: status(issuer.token(program.mcp, ALL)) == 200, "the new key is known")
        assert status(old) == 401
        end(program, place)
    finally:
        program.destroy()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"OAUTH__ISSUER": "http://login.example.com"}, "oauth.issuer"),
        ({"OAUTH__ISSUER": "login.example.com"}, "oauth.issuer"),
        ({"OAUTH__JWKS_URL": "http://login.example.com/keys"}, "oauth.jwks_url"),
        ({"OAUTH__ALGORITHMS": "HS256"}, "oauth.algorithms"),
        ({"OAUTH__ALGORITHMS": "RS256,none"}, "oauth.algorithms"),
        ({"OAUTH__SCOPES": "Look=browser:look"}, "oauth.scopes"),
        ({"OAUTH__CA_FILE": "/nowhere"}, "oauth.ca_file"),
        ({"OAUTH__REFRESH": "10s"}, "oauth.refresh"),
        ({"HTTP__PUBLIC_URL": ""}, "http.public_url is needed"),
        ({"OAUTH__ISSUER": "", "OAUTH__AUDIENCE": "x"}, "oauth.issuer is needed"),
    ],
)
def test_settings_that_would_let_the_wrong_in_are_refused(
    more: dict[str, str], words: str, place: Place, issuer: Issuer, tmp_path: Path
) -> None:
    """At the start, with the setting's name and what to do."""
    address = free_address()
    settings(place, issuer, address, **more)
    command = [binary("browserfleet"), "serve", "--listen", address]
    refused = subprocess.run(command, env=place.environment, capture_output=True, text=True, timeout=30, check=False, cwd=tmp_path)
    assert refused.returncode == 78 and words in refused.stderr, refused

"""`browserfleet ctl`: what operators do without grpcurl and curl."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from fleet import Fleet, running
from pages import Pages
from programs import binary
from waiting import BOUND, until


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """Two daemons, one front end."""
    with running(daemons=2, front_ends=1) as fleet:
        yield fleet


def ctl(fleet: Fleet, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs it against a fleet."""
    daemons = [word for member in fleet.daemons for word in ("--daemon", member.url)]
    command = [binary("browserfleet"), "ctl", *daemons, "--front-end", fleet.front_ends[0].url]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=2 * BOUND, check=False)


def rows(fleet: Fleet, *arguments: str) -> list[dict]:
    """What it prints as JSON."""
    done = ctl(fleet, "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.anyio
async def test_leases_sessions_and_daemons_are_listed_and_a_lease_is_revoked(fleet: Fleet, pages: Pages) -> None:
    """Who reads the lists finds the same lease in each; the session of a revoked one goes on in another browser."""
    async with fleet.connect()("mcp-legacy") as agent:
        await agent.ok("browser_navigate", url=pages.at("/"))
        [lease] = rows(fleet, "leases")
        assert lease["state"] == "bound" and lease["daemon"] in [member.url for member in fleet.daemons]
        assert rows(fleet, "leases", "--session", lease["session"], "--state", "bound") == [
            {**lease, "age_seconds": pytest.approx(lease["age_seconds"], abs=BOUND)}
            | {key: pytest.approx(lease[key], abs=BOUND) for key in ("idle_seconds", "expires_in_seconds")}
        ]
        assert rows(fleet, "leases", "--state", "unbound") == rows(fleet, "leases", "--principal", "nobody") == []
        [session] = rows(fleet, "sessions")
        assert (session["lease"], session["daemon"]) == (lease["lease"], lease["daemon"])
        assert session["origin"] == pages.at("/").removesuffix("/")
        until(lambda: rows(fleet, "sessions")[0]["memory_bytes"] > 10 << 20, "its memory has been measured", BOUND)
        pools = rows(fleet, "pool")
        assert sorted(pool["leases"] for pool in pools) == [0, 1]

        revoked = ctl(fleet, "revoke", lease["lease"])
        assert revoked.returncode == 0 and lease["daemon"] in revoked.stdout, revoked.stderr
        again = ctl(fleet, "revoke", lease["lease"])
        assert again.returncode == 1 and "ctl leases" in again.stderr
        reply = await agent.ok("browser_snapshot")
        assert "restored" in reply.text.lower()
        [other] = rows(fleet, "leases")
        assert other["lease"] != lease["lease"] and other["session"] == lease["session"]


@pytest.mark.anyio
async def test_tables_are_for_people(fleet: Fleet, pages: Pages) -> None:
    """A heading, a row each, times with units."""
    async with fleet.connect()("mcp-modern") as agent:
        await agent.ok("browser_navigate", url=pages.at("/"))
        heading, row = ctl(fleet, "leases").stdout.splitlines()
        assert heading.split()[:3] == ["LEASE", "DAEMON", "STATE"] and "bound" in row.split()
        heading, *pools = ctl(fleet, "pool").stdout.splitlines()
        assert heading.startswith("DAEMON") and len(pools) == 2
        assert "-v" not in ctl(fleet, "sessions").stdout
        # Nothing that is shown is good for anything.
        assert agent.session not in ctl(fleet, "sessions").stdout + ctl(fleet, "leases").stdout


def test_what_is_wrong_is_said(fleet: Fleet) -> None:
    """And what to do about it."""
    undirected = subprocess.run(
        [binary("browserfleet"), "ctl", "drain"], capture_output=True, text=True, timeout=BOUND, check=False
    )
    assert undirected.returncode == 1 and "--daemon" in undirected.stderr
    nobody = subprocess.run(
        [binary("browserfleet"), "ctl", "--daemon", "http://127.0.0.1:9", "pool"],
        capture_output=True, text=True, timeout=2 * BOUND, check=False,
    )
    assert nobody.returncode == 1 and "http://127.0.0.1:9" in nobody.stderr and "is it running" in nobody.stderr
    top = ctl(fleet, "top")
    assert top.returncode == 1 and "terminal" in top.stderr


@pytest.mark.anyio
async def test_what_one_daemon_does_and_says_does_not_depend_on_the_others(fleet: Fleet, pages: Pages) -> None:
    """Those that answer are shown, and the one that does not is told on standard error."""
    nowhere = ["--daemon", "http://127.0.0.1:9"]
    async with fleet.connect()("mcp-modern") as agent:
        await agent.ok("browser_navigate", url=pages.at("/"))
        [lease] = rows(fleet, "leases")
        for what, count in (("pool", 2), ("leases", 1)):
            done = ctl(fleet, *nowhere, "--json", what)
            assert done.returncode == 1 and "http://127.0.0.1:9" in done.stderr, done
            assert len(done.stdout.splitlines()) == count, done
        unknown = ctl(fleet, *nowhere, "revoke", "nobody")
        assert unknown.returncode == 1 and "http://127.0.0.1:9" in unknown.stderr and "that has answered" in unknown.stderr
        revoked = ctl(fleet, *nowhere, "revoke", lease["lease"])
        assert revoked.returncode == 0 and lease["daemon"] in revoked.stdout, revoked


def test_top_ends_while_a_daemon_keeps_it_waiting(fleet: Fleet) -> None:
    """An interrupt while a screen is being made is not lost."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        daemons = ["--daemon", f"http://127.0.0.1:{silent.getsockname()[1]}"]
        ours, theirs = pty.openpty()
        command = [binary("browserfleet"), "ctl", *daemons, "--front-end", fleet.front_ends[0].url, "top"]
        top = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
        try:
            # It asks its first question.
            silent.settimeout(BOUND)
            question, _ = silent.accept()
            with question:
                top.send_signal(signal.SIGINT)
                assert top.wait(timeout=BOUND) == 0
        finally:
            top.kill()
            top.wait()
            os.close(ours)
            os.close(theirs)


def test_a_daemon_is_drained() -> None:
    """It takes no new leases, and ends by itself no browser that is in use."""
    with running(daemons=1, front_ends=1) as fleet:
        # Beside one that is not there: it is drained all the same, and the other one told.
        done = ctl(fleet, "--daemon", "http://127.0.0.1:9", "--json", "drain", "--grace", "30s")
        assert done.returncode == 1 and "http://127.0.0.1:9" in done.stderr, done
        [drained] = [json.loads(line) for line in done.stdout.splitlines()]
        assert drained["leases"] == 0
        until(lambda: not fleet.front_ends[0].is_ready(), "nobody takes new leases", BOUND)

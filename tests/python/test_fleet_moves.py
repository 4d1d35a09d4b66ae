"""What a fleet brings back when a daemon or a browser goes: everything a session's checkpoint has, on another daemon."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import fleet as fleets
from clients import HTTP, Agent
from fleet import Fleet
from pages import Pages
from waiting import eventually

#: More than a reply holds.
LARGE = "() => Array.from({length: 10000}, (_, n) => 'line ' + n)"

#: Within this an emptied Redis has the fleet's secret back, with some more for a busy machine.
OFFERED = 10.0 + 5.0

#: What the page finds again: its cookie, its local and its session storage.
REMEMBERED = "login=me me mine"


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """A fleet for each test alone. After it, everything has to be as it was before."""
    with fleets.running() as fleet:
        yield fleet
        fleet.assert_as_before()


async def test_a_killed_daemons_sessions_go_on_elsewhere(fleet: Fleet, pages: Pages) -> None:
    """Logged in as before, on the daemon that is left; the others notice nothing."""
    connect = fleet.connect()
    async with connect("http-modern") as one, connect("http-legacy") as other, connect("http-modern") as third:
        agents = [one, other, third]
        for agent in agents:
            assert REMEMBERED in (await agent.ok("browser_navigate", url=pages.at("/login"))).text
        await eventually(fleet.restorable, "every session is kept")
        victim, survivor = fleet.daemons
        held = victim.program.get("/health")["leases"]
        victim.kill()
        replies = [await agent.call("browser_snapshot") for agent in agents]
        assert sum("Restored" in reply.text for reply in replies) == held
        for reply in replies:
            assert not reply.is_error and pages.at("/login") in reply.text and REMEMBERED in reply.text, reply
        assert survivor.program.get("/health")["leases"] == len(agents)
        victim.start_again()


@pytest.mark.parametrize("kind", HTTP)
async def test_a_daemon_that_stops_moves_its_sessions(kind: str, fleet: Fleet, pages: Pages) -> None:
    """It goes once they are kept, and each goes on elsewhere with its next call, whatever that is."""
    async with fleet.connect()(kind) as agent:
        await agent.ok("browser_navigate", url=pages.at("/login"))
        await agent.ok("browser_tabs", action="new", url=pages.at("/"))
        [leaving] = fleet.holding()
        leaving.terminate()
        back = await agent.back("browser_snapshot")
        assert "Hello" in back.text and len(back.structured["restored"]["tabs"]) == 2, back
        await agent.ok("browser_tabs", action="select", index=0)
        assert REMEMBERED in (await agent.ok("browser_snapshot")).text
        leaving.start_again()


async def test_a_browser_that_dies_is_replaced(fleet: Fleet, pages: Pages) -> None:
    """On the same daemon or another one."""
    async with fleet.connect()("http-modern") as agent:
        ready = {process.pid for member in fleet.daemons for process in member.program.browsers()}
        await agent.ok("browser_navigate", url=pages.at("/login"))
        await eventually(fleet.restorable, "the session is kept")
        [holder] = fleet.holding()
        [leased] = [process for process in holder.program.browsers() if process.pid in ready]
        leased.kill()
        assert REMEMBERED in (await agent.back("browser_snapshot")).text


async def test_an_emptied_redis_gets_everything_back_that_lives(fleet: Fleet, pages: Pages) -> None:
    """The secret of the fleet, before anybody draws another one; the sessions; and what each is restored from, though nobody has
    changed anything since."""
    async with fleet.connect()("http-modern") as agent:
        await agent.ok("browser_navigate", url=pages.at("/login"))
        before = await large(agent)
        await eventually(fleet.restorable, "the session is kept")
        secret = fleet.redis.ask("GET", "bf:key")
        assert len(secret[0]) >= 32
        fleet.redis.ask("FLUSHALL")
        await eventually(lambda: fleet.redis.ask("GET", "bf:key") == secret, "the secret is offered again", OFFERED)
        await eventually(fleet.restorable, "the session is kept again")
        # A front end that starts now takes the secret that all have.
        fleet.front_ends[0].terminate()
        fleet.front_ends[0].start_again()
        cursor = await large(agent)
        for _ in fleet.front_ends:
            assert "line 9999" in (await agent.ok("browser_read_cursor", cursor=cursor, max_bytes=1_000_000)).text
        # What it pointed to went with Redis.
        assert (await agent.call("browser_read_cursor", cursor=before)).code == "handle_unknown_or_expired"
        [holder] = fleet.holding()
        holder.kill()
        assert REMEMBERED in (await agent.back("browser_snapshot")).text
        holder.start_again()


async def large(agent: Agent) -> str:
    """The cursor of a large result."""
    return (await agent.ok("browser_evaluate", function=LARGE)).structured["next_cursor"]

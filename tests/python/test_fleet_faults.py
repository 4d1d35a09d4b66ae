"""What a fleet loses when one of its programs dies: the calls it was at, and nothing else without saying so. There are no
checkpoints here; what they bring back is in `test_fleet_moves`."""

from __future__ import annotations

import time
from collections.abc import Iterator

import anyio
import pytest
from mcp import MCPError

import fleet as fleets
import processes
from clients import HTTP, Agent, Reply
from fleet import Fleet, Member
from legacy import Legacy
from pages import Pages, wait_at
from waiting import eventually

#: What a client is told when its browser has gone; which one is a matter of milliseconds.
LOST = ("browser_gone", "lease_lost")

#: Marks a page, so that another one is not taken for it.
MARK = "() => { window.mark = 'still the same page'; return 1 }"
MARKED = "() => window.mark || 'another page'"


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """A fleet for each test alone. After it, everything has to be as it was before."""
    with fleets.running(CHECKPOINTS__ENABLED="false") as fleet:
        yield fleet
        fleet.assert_as_before()


@pytest.mark.parametrize("kind", HTTP)
async def test_a_front_end_killed_during_a_call(kind: str, fleet: Fleet, pages: Pages) -> None:
    """The client hears that the call broke; the session goes on through the other front end, its page as it was."""
    gate, broken = f"/gate/killed-front-end-{kind}", list[str]()
    async with fleet.connect()(kind) as agent:
        await agent.ok("browser_navigate", url=pages.at("/"))
        await agent.evaluate(MARK)

        async def wait() -> None:
            try:
                broken.append((await agent.call("browser_evaluate", function=wait_at(gate), patience=20.0)).code)
            except MCPError as error:
                broken.append(error.error.message)

        async with anyio.create_task_group() as calls:
            calls.start_soon(wait)
            await eventually(lambda: pages.visits(gate), "the call runs")
            [serving] = fleet.serving()
            serving.kill()
        assert len(broken) == 1 and broken != ["ok"]
        assert await agent.evaluate(MARKED) == "still the same page"
        serving.start_again()
        for _ in range(3):
            assert await agent.evaluate(MARKED) == "still the same page"


async def test_a_daemon_killed_between_calls(fleet: Fleet, pages: Pages) -> None:
    """Its browsers are gone at once, and no others. Each session hears of it, and goes on elsewhere by a navigation."""
    connect = fleet.connect()
    async with connect("http-modern") as one, connect("http-legacy") as other, connect("http-modern") as third:
        agents = [one, other, third]
        for agent in agents:
            await agent.ok("browser_navigate", url=pages.at("/set?who=before"))
            await agent.evaluate(MARK)
        victim, survivor = fleet.daemons
        held = victim.program.get("/health")["leases"]
        # Two choices, the freer one first: nobody has all of them.
        assert held in (1, 2)
        kill_daemon(victim)
        replies = [await agent.call("browser_evaluate", function=MARKED) for agent in agents]
        lost = [(agent, reply) for agent, reply in zip(agents, replies, strict=True) if reply.is_error]
        assert len(lost) == held
        for agent, reply in lost:
            assert reply.code in LOST and "browser_navigate" in reply.text, reply
            page = await agent.ok("browser_navigate", url=pages.at("/who"))
            assert "previous browser was lost" in page.text and "cookies sent: none" in page.text
        assert all(reply.result == "still the same page" for reply in replies if not reply.is_error)
        assert survivor.program.get("/health")["leases"] == 3
        victim.start_again()


async def test_a_daemon_killed_during_a_call(fleet: Fleet, pages: Pages) -> None:
    """The call ends at once, with a reason. The next one, which opens a page, says that it is in a new browser."""
    gate, replies = "/gate/killed-daemon", list[Reply]()
    async with fleet.connect()("http-modern") as agent:
        await agent.ok("browser_navigate", url=pages.at("/set?who=before"))

        async def wait() -> None:
            replies.append(await agent.call("browser_evaluate", function=wait_at(gate)))

        async with anyio.create_task_group() as calls:
            calls.start_soon(wait)
            await eventually(lambda: pages.visits(gate), "the call runs")
            [victim] = fleet.holding()
            kill_daemon(victim)
        assert [reply.code for reply in replies] == ["browser_gone"]
        page = await agent.ok("browser_navigate", url=pages.at("/who"))
        assert "previous browser was lost" in page.text and "cookies sent: none" in page.text
        victim.start_again()


@pytest.mark.parametrize("kind", HTTP)
async def test_a_browser_killed_between_calls(kind: str, fleet: Fleet, pages: Pages) -> None:
    """As with one process: typed, and usable next."""
    async with fleet.connect()(kind) as agent:
        ready = {process.pid for member in fleet.daemons for process in member.program.browsers()}
        await agent.ok("browser_navigate", url=pages.at("/set?who=before"))
        [holder] = fleet.holding()
        # The one that was leased was ready before; the one that is ready now has been started since.
        [leased] = [process for process in holder.program.browsers() if process.pid in ready]
        leased.kill()
        lost = await agent.call("browser_snapshot")
        assert lost.code in LOST and "browser_navigate" in lost.text, lost
        assert "cookies sent: none" in (await agent.ok("browser_navigate", url=pages.at("/who"))).text


async def test_redis_that_does_not_answer_ends_no_session(fleet: Fleet, pages: Pages) -> None:
    """Calls are refused with a code and a time to come back; afterwards every page is as it was, in both eras."""
    connect, by_hand = fleet.connect(), Legacy()
    async with by_hand, connect("http-modern") as modern:
        await by_hand.initialize(fleet.front_ends[0])
        await by_hand.text(fleet.front_ends[1], "browser_navigate", url=pages.at("/"))
        await modern.ok("browser_navigate", url=pages.at("/"))
        await modern.evaluate(MARK)
        fleet.redis.freeze()
        try:
            await refused_for(3.0, modern, by_hand, fleet)
        finally:
            fleet.redis.thaw()
        await usable_again(modern)
        assert "Hello" in await by_hand.text(fleet.front_ends[0], "browser_snapshot")
        assert fleet.leases() == 2
        await ended(by_hand, fleet.front_ends[1])


async def test_redis_that_comes_back_empty_ends_no_session(fleet: Fleet, pages: Pages) -> None:
    """The daemons know the sessions of their browsers and write them again. Until then nobody hears that his is unknown."""
    connect = fleet.connect()
    async with connect("http-modern") as one, connect("http-modern") as other:
        for agent in (one, other):
            await agent.ok("browser_navigate", url=pages.at("/"))
            await agent.evaluate(MARK)
        for forget in (fleet.redis.restart_empty, lambda: fleet.redis.ask("FLUSHALL")):
            forget()
            for agent in (one, other):
                await usable_again(agent)
            assert fleet.leases() == 2


async def test_a_session_of_its_callers_name_survives_an_emptied_redis(fleet: Fleet, pages: Pages) -> None:
    """Such a session is made by its first call; a call that comes before the daemon has written it again makes no other."""
    async with fleet.connect()("http-modern") as agent:
        agent.session = "my-own-name"
        await agent.ok("browser_navigate", url=pages.at("/"))
        await agent.evaluate(MARK)
        fleet.redis.ask("FLUSHALL")
        await usable_again(agent)
        assert fleet.leases() == 1


def kill_daemon(victim: Member) -> None:
    """SIGKILL. None of its browsers outlives it for more than three seconds."""
    family = processes.descendants(victim.program.pid)
    assert family, "there were browsers"
    victim.kill()
    deadline = time.monotonic() + 3.0
    while processes.reap_orphans():
        assert time.monotonic() < deadline, f"these live: {processes.orphans()}"
        time.sleep(0.02)


async def refused_for(seconds: float, modern: Agent, by_hand: Legacy, fleet: Fleet) -> None:
    """Nothing but typed refusals that say when to come back, for a while, in both eras."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        reply = await modern.call("browser_evaluate", function=MARKED)
        assert reply.code == "store_unavailable" and reply.structured["error"]["retry_after_ms"] > 0, reply
        for member in fleet.front_ends:
            answer = await by_hand.call(member, "browser_snapshot")
            assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0, answer.text


async def ended(agent: Legacy, front_end: Member) -> None:
    """Soon: a front end that was not asked meanwhile may hear only now that Redis answers again."""
    with anyio.fail_after(15):
        while (status := (await agent.delete(front_end)).status_code) != 204:
            assert status == 503, status
            await anyio.sleep(0.1)


async def usable_again(agent: Agent) -> None:
    """Soon, and in its own page; until then it hears nothing but that it should come back."""
    with anyio.fail_after(15):
        while (reply := await agent.call("browser_evaluate", function=MARKED)).is_error:
            assert reply.code == "store_unavailable" and reply.structured["error"]["retry_after_ms"] > 0, reply
    assert reply.result == "still the same page"

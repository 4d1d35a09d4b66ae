"""What takes a fleet its time to show: sessions that lapse, restarts under load, a store that is away for long."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import anyio
import pytest

import fleet as fleets
from clients import Agent
from fleet import Fleet
from legacy import Legacy
from pages import Pages
from test_fleet_faults import MARK, ended, refused_for, usable_again
from waiting import BOUND, eventually

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]

#: The shortest there is.
IDLE_TTL = 60.0
#: From the end of a session, in seconds: its lease is taken back, and its processes are gone.
REVOKED, GONE = 2.0, 5.0
#: Sessions that lapse together.
LAPSING = 20

#: Twenty clients, some of each kind; most are of the kind that takes two cores the least.
LOAD = ("http-modern", "http-legacy") * 8 + ("fastmcp", "fastmcp", "typescript-v1", "typescript-v2")
ROUNDS = 3

#: Counts in the page: a call that was lost, or ran twice, is seen in the next answer. Every few calls take a while, so that
#: some are always under way.
COUNT = """async () => { window.count = (window.count || 0) + 1;
  await new Promise(done => setTimeout(done, window.count % 5 ? 0 : 200)); return window.count }"""


@pytest.fixture
def fleet(request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """A fleet for each test alone, with the settings it is marked with. After it, everything has to be as before."""
    settings = request.node.get_closest_marker("settings")
    with fleets.running(**(settings.kwargs if settings else {})) as fleet:
        yield fleet
        fleet.assert_as_before()


@pytest.mark.settings(SESSION__IDLE_TTL="1m", SESSION__PER_PRINCIPAL="40", POOL__MAX_BROWSERS="12")
async def test_sessions_that_lapse_lose_their_browsers(fleet: Fleet, pages: Pages) -> None:
    """All at the same time, on both daemons; one that is used meanwhile stays."""
    async with AsyncExitStack() as stack:
        connect = fleet.connect()
        agents = [await stack.enter_async_context(connect("http-modern")) for _ in range(LAPSING + 1)]
        for agent in agents:
            await agent.ok("browser_navigate", url=pages.at("/"))
        used, *unused = agents
        await used.evaluate(MARK)
        assert sessions(fleet) == fleet.leases() == len(agents)
        async with anyio.create_task_group() as last_use:
            for agent in unused:
                last_use.start_soon(agent.ok, "browser_snapshot")
        used_until = time.monotonic() + IDLE_TTL - 5
        while time.monotonic() < used_until:
            await used.ok("browser_snapshot")
            assert fleet.leases() == len(agents), "no lease ends before its time"
            await anyio.sleep(5)
        await eventually(lambda: sessions(fleet) == 1, "the sessions lapse")
        ended = time.monotonic()
        await eventually(lambda: fleet.leases() == 1, "the leases are revoked", REVOKED)
        revoked = time.monotonic() - ended
        busy = sum(fleet.nothing_left().browsers) + 1
        await eventually(
            lambda: sum(fleet.left().browsers) <= busy, "their processes are gone", ended + GONE - time.monotonic()
        )
        print(f"{LAPSING} leases revoked after {revoked:.2f} s, processes gone after {time.monotonic() - ended:.2f} s")
        await usable_again(used)
        for agent in unused:
            assert "Restored" in (await agent.ok("browser_snapshot")).text, "parked, and back when it is named"


def sessions(fleet: Fleet) -> int:
    """How many there are, as Redis has it."""
    return sum(key.endswith(":rec") and ":conn:" not in key for key in fleet.redis.keys())


@dataclass
class Worker:
    """An agent that never rests, and what it has seen."""

    agent: Agent
    calls: int = 0
    failure: str | None = None

    async def work(self, url: str, stop: anyio.Event) -> None:
        """Calls until told to stop, or until a call fails. Each answer must be the one after the last."""
        try:
            await self.agent.ok("browser_navigate", url=url)
            while not stop.is_set():
                count = await self.agent.evaluate(COUNT)
                self.calls += 1
                assert count == self.calls, f"call {self.calls} was answered {count}: one was lost, or ran twice"
        except (Exception, ExceptionGroup) as error:
            self.failure = repr(error)


# Twenty processes would be too much for two cores at work, so sessions share some; who shared one leaves it soon.
@pytest.mark.settings(
    POOL__MAX_BROWSERS="3", POOL__CONTEXTS_PER_BROWSER="10", POOL__WARM_TTL="5s", SESSION__PER_PRINCIPAL="40"
)
async def test_a_rolling_restart_fails_no_call(fleet: Fleet, pages: Pages) -> None:
    """Each front end ends and comes back, several times, while sessions are at work without a pause."""
    stop = anyio.Event()
    async with AsyncExitStack() as stack:
        connect = fleet.connect()
        workers = [Worker(await stack.enter_async_context(connect(kind))) for kind in LOAD]
        async with anyio.create_task_group() as work:
            for worker in workers:
                work.start_soon(worker.work, pages.at("/"), stop)
            await at_work(workers)
            for member in fleet.front_ends * ROUNDS:
                await anyio.to_thread.run_sync(member.terminate)
                await anyio.to_thread.run_sync(member.start_again)
                await at_work(workers)
            stop.set()
        assert [worker.failure for worker in workers if worker.failure] == [], fleet.proxy.broken
    print(f"{sum(worker.calls for worker in workers)} calls over {len(fleet.front_ends) * ROUNDS} restarts")


async def at_work(workers: list[Worker]) -> None:
    """Everybody has made some calls more, or has failed."""
    before = [worker.calls for worker in workers]

    def has_gone_on() -> bool:
        return all(
            worker.failure or worker.calls > calls + 5 for worker, calls in zip(workers, before, strict=True)
        )

    await eventually(has_gone_on, "everybody goes on", 2 * BOUND)


async def test_redis_away_for_half_a_minute(fleet: Fleet, pages: Pages) -> None:
    """Leases are not lost, however long nobody can be asked."""
    by_hand = Legacy()
    async with by_hand, fleet.connect()("http-modern") as modern:
        await by_hand.initialize(fleet.front_ends[0])
        await by_hand.text(fleet.front_ends[1], "browser_navigate", url=pages.at("/"))
        await modern.ok("browser_navigate", url=pages.at("/"))
        await modern.evaluate(MARK)
        fleet.redis.freeze()
        try:
            await refused_for(30.0, modern, by_hand, fleet)
        finally:
            fleet.redis.thaw()
        await usable_again(modern)
        assert "Hello" in await by_hand.text(fleet.front_ends[0], "browser_snapshot")
        await ended(by_hand, fleet.front_ends[1])

"""Daemons that stop or die under load: every session goes on with what it is signed in to, what it has stored, its tabs and where
it is scrolled to. The short form is for `make test`, the long one for `make test-fleet`."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest

import fleet as fleets
from clients import Agent, Reply
from fleet import Fleet, Member
from pages import Pages
from test_fleet_faults import LOST, kill_daemon
from test_fleet_long import LOAD, at_work
from waiting import BOUND, eventually

#: How many sessions, and how often each daemon goes.
SHORT = pytest.param(4, 1, id="short")
LONG = pytest.param(len(LOAD), 3, id="long", marks=[pytest.mark.fleet, pytest.mark.timeout(300)])

SCROLLED = 700

#: Counts in both storages: what was answered and is not there afterwards was lost. Every few calls take a while, so that some
#: are always under way. Answers what the session has.
COUNT = """async () => {
  localStorage.count = Number(localStorage.count || 0) + 1;
  sessionStorage.count = Number(sessionStorage.count || 0) + 1;
  await new Promise(done => setTimeout(done, localStorage.count % 5 ? 0 : 200));
  return { count: [localStorage.count, sessionStorage.count].map(Number),
    who: document.getElementById('who').textContent, scrolled: scrollY } }"""


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """Either daemon alone has room for everybody. Twenty processes would be too much for two cores at work, so sessions share
    some; who shared one leaves it soon."""
    room = {"POOL__MAX_BROWSERS": "3", "POOL__CONTEXTS_PER_BROWSER": "10", "SESSION__PER_PRINCIPAL": "40"}
    with fleets.running(**room, POOL__WARM_TTL="5s", DAEMON__DRAIN_GRACE="20s") as fleet:
        yield fleet
        fleet.assert_as_before()


@dataclass
class Resident:
    """An agent that is signed in somewhere and never rests, and what it has seen."""

    agent: Agent
    user: str
    site: str
    #: What its page has counted, as far as it was told.
    count: int = 0
    tab_count: int = 0
    calls: int = 0
    restored: int = 0
    #: Codes of calls that failed.
    failed: list[str] = field(default_factory=list)
    failure: str | None = None

    async def settle(self) -> None:
        """Signs in, opens a second tab behind the first, and scrolls."""
        await self.agent.ok("browser_navigate", url=f"{self.site}/sign-in?{self.user}")
        await self.agent.ok("browser_navigate", url=f"{self.site}/account")
        await self.agent.ok("browser_tabs", action="new", url=f"{self.site}/account?other")
        await self.agent.ok("browser_tabs", action="select", index=0)
        await self.agent.evaluate(f"() => scrollTo(0, {SCROLLED})")

    async def live(self, stop: anyio.Event) -> None:
        """Counts until told to stop, or until something is not as it should be."""
        try:
            while not stop.is_set():
                self._look_at(await self.agent.call("browser_evaluate", function=COUNT))
                self.calls += 1
        except (Exception, ExceptionGroup) as error:
            self.failure = f"{self.user}: {error!r}"

    def _look_at(self, reply: Reply) -> None:
        if reply.is_error:
            self.failed.append(reply.code)
            return
        seen = reply.result
        if "restored" in reply.structured:
            self.restored += 1
            back = reply.structured["restored"]
            tabs = [(tab["url"].removeprefix(self.site), tab["current"]) for tab in back["tabs"]]
            assert tabs == [("/account", True), ("/account?other", False)], back
            assert (back["cookies"], back["origins"]) == (1, [self.site]) and back["lost"], back
        assert (seen["who"], seen["scrolled"]) == (f"Signed in as {self.user}", SCROLLED), seen
        # Each is looked at when a session is kept, and may be of another moment where that was not the last.
        self.count, self.tab_count = seen["count"]


@asynccontextmanager
async def at_home(fleet: Fleet, pages: Pages, number: int) -> AsyncIterator[list[Resident]]:
    """Residents at work, each in a session of its own that is kept."""
    stop, site = anyio.Event(), pages.at("")
    async with AsyncExitStack() as stack:
        connect = fleet.connect()
        agents = [await stack.enter_async_context(connect(kind)) for kind in LOAD[:number]]
        residents = [Resident(agent, f"user{at}", site) for at, agent in enumerate(agents)]
        for resident in residents:
            await resident.settle()
        async with anyio.create_task_group() as work:
            for resident in residents:
                work.start_soon(resident.live, stop)
            try:
                await all_go_on(residents)
                yield residents
            finally:
                stop.set()
        assert failures(residents) == []
        for resident in residents:
            tabs = (await resident.agent.ok("browser_tabs", action="list")).text
            assert f"{site}/account?other" in tabs and "- 1:" in tabs, tabs


async def all_go_on(residents: list[Resident]) -> None:
    """Everybody has made some calls more, and found everything as it should be."""
    await at_work(residents)
    assert failures(residents) == []


def failures(residents: list[Resident]) -> list[str]:
    """What was not as it should be."""
    return [resident.failure for resident in residents if resident.failure]


async def kept_anew(fleet: Fleet, number: int) -> None:
    """Waits until every session has a checkpoint of now. One may have been on its way: the next is not that one."""
    last, writes = fleet.redis.checkpoints(), Counter[str]()

    def all_have_two() -> bool:
        now = fleet.redis.checkpoints()
        writes.update(key for key in now if now[key] != last.get(key))
        last.update(now)
        return sum(count >= 2 for count in writes.values()) == number

    await eventually(all_have_two, "every session is kept anew", 2 * BOUND)


async def one_after_the_other(
    fleet: Fleet, residents: list[Resident], rounds: int, end: Callable[[Member], None]
) -> None:
    """Each daemon goes, as `end` has it, and comes back, while the residents are at work."""
    for member in fleet.daemons * rounds:
        await kept_anew(fleet, len(residents))
        held, before = member.program.get("/health")["leases"], sum(resident.restored for resident in residents)
        await anyio.to_thread.run_sync(end, member)
        await all_go_on(residents)
        restored = sum(resident.restored for resident in residents) - before
        assert restored == held, f"{held} sessions were there, {restored} of them were restored"
        await anyio.to_thread.run_sync(member.start_again)
        await all_go_on(residents)


@pytest.mark.parametrize(("number", "rounds"), [SHORT, LONG])
async def test_a_rolling_restart_of_daemons_loses_nothing(fleet: Fleet, pages: Pages, number: int, rounds: int) -> None:
    """No call fails, and what a call was told is there when its session has moved."""
    async with at_home(fleet, pages, number) as residents:
        await one_after_the_other(fleet, residents, rounds, Member.terminate)
    for resident in residents:
        counted = (resident.count, resident.tab_count)
        assert (resident.failed, counted) == ([], (resident.calls, resident.calls)), resident
    print(f"{sum(resident.calls for resident in residents)} calls, {sum(resident.restored for resident in residents)} moves")


@pytest.mark.parametrize(("number", "rounds"), [SHORT, LONG])
async def test_daemons_that_are_killed_lose_moments(fleet: Fleet, pages: Pages, number: int, rounds: int) -> None:
    """Calls under way are told so; the next one tells what was restored, and what not. What was done since the last checkpoint
    may be lost, and nothing else."""
    async with at_home(fleet, pages, number) as residents:
        await one_after_the_other(fleet, residents, rounds, kill_daemon)
    tell_failures(residents)


@pytest.mark.parametrize(("number", "rounds"), [SHORT, LONG])
async def test_browsers_that_are_killed_lose_moments(fleet: Fleet, pages: Pages, number: int, rounds: int) -> None:
    """As with a daemon that is killed."""

    async with at_home(fleet, pages, number) as residents:
        for member in fleet.daemons * rounds:
            await kept_anew(fleet, len(residents))
            before = sum(resident.restored for resident in residents)
            held = member.program.get("/health")["leases"]
            for browser in member.program.browsers():
                browser.kill()
            await all_go_on(residents)
            assert sum(resident.restored for resident in residents) - before == held
    tell_failures(residents)


def tell_failures(residents: list[Resident]) -> None:
    """Nothing but typed errors about the browser that was lost, at most one a loss."""
    for resident in residents:
        assert set(resident.failed) <= set(LOST) and len(resident.failed) <= resident.restored, resident
    failed, restored = (sum(counts) for counts in zip(*((len(r.failed), r.restored) for r in residents), strict=True))
    print(f"{sum(resident.calls for resident in residents)} calls, {restored} losses, {failed} calls told of one")

"""However a session ends, nothing of it is left, and everything of everybody else: counted in each place where sessions are
kept, with payloads of more than 100 KB.

A way to end a session is one of: `session_close`; DELETE of the connection whose own it is; the end of a stdio client; its longest
lifetime. Three others end its browser alone, and leave what the session is restored from, by design: a crash, a drain, and
the idle time (a session that lapses is parked: its artifacts go, its checkpoint stays until the longest lifetime).
`browser_close` is the opposite: its checkpoint goes, and the session stays with its artifacts. Each of these is followed here by
an end that is one."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest

from clients import Agent, Connector, Reply
from pages import Pages
from redis_server import Redis
from stores import Alone, Home, Kept, home, kept_in, names_in, rows
from waiting import eventually

STORES = ("memory", "sqlite", "redis")

#: Every session has a browser context of its own, few have a process: the machine is small.
#: What is not kept yet when a browser dies is lost, a second of work at most: here less, so that a count is soon of the whole.
ROOM = {"CHECKPOINTS__INTERVAL": "100ms", "POOL__MAX_BROWSERS": "3", "POOL__CONTEXTS_PER_BROWSER": "60", "SESSION__PER_PRINCIPAL": "100", "POOL__WARM_TTL": "5s"}

#: What becomes of sessions with names, so many each. As many have none, and end with their connections.
WAYS = ("closed", "freed", "crashed", "stays")
SHORT = pytest.param(2, id="short")
LONG = pytest.param(10, id="long", marks=[pytest.mark.fleet, pytest.mark.timeout(300)])

#: Calls at a time.
AT_ONCE = 4

#: 120,000 digits that cannot be compressed away: some in the page's storage, so in the checkpoint, and all in the answer, whose
#: second and later pages are an artifact.
NOISE = """() => { const bytes = crypto.getRandomValues(new Uint8Array(60000));
  const noise = Array.from(bytes, byte => byte.toString(16).padStart(2, '0')).join('');
  localStorage.noise = noise; return noise.match(/.{80}/g) }"""
#: What of it is enough to know it again.
STORED = "() => [localStorage.noise.length, localStorage.noise.slice(0, 64), localStorage.noise.slice(-64)]"


class Sessions:
    """Sessions with names, and the cursor of what each has kept."""

    def __init__(self, agent: Agent, pages: Pages) -> None:
        self._agent, self._pages = agent, pages
        self.cursors: dict[str, str] = {}
        self._first: dict[str, str] = {}

    async def fill(self, names: Iterable[str]) -> None:
        """Opens them and gives each a payload in an artifact and in its checkpoint."""

        async def fill(name: str) -> None:
            self._remember(name, await self._noise(self._agent, session_id=name))

        await at_once(fill, names)

    async def fill_own(self, agent: Agent) -> str:
        """Does the same with the session that a connection has without asking. Answers its name."""
        reply = await self._noise(agent)
        [listed] = (await agent.ok("session_list")).structured["sessions"]
        self._remember(listed["session_id"], reply)
        return listed["session_id"]

    async def _noise(self, agent: Agent, **session: str) -> Reply:
        await agent.ok("browser_navigate", url=self._pages.at("/login"), **session)
        reply = await agent.ok("browser_evaluate", function=NOISE, **session)
        assert reply.structured["total_bytes"] > 120_000
        return reply

    def _remember(self, name: str, reply: Reply) -> None:
        self.cursors[name], self._first[name] = reply.structured["next_cursor"], reply.text

    async def call(self, tool: str, names: Iterable[str]) -> None:
        """Calls a tool in each."""

        async def call(name: str) -> None:
            await self._agent.ok(tool, session_id=name)

        await at_once(call, names)

    async def read(self, name: str) -> str:
        """The whole of what was answered once, read to its end."""
        text, cursor = self._first[name], self.cursors[name]
        while cursor:
            page = await self._agent.ok("browser_read_cursor", cursor=cursor, max_bytes=100_000)
            text, cursor = text + page.text, page.structured["next_cursor"]
        return "".join(re.findall(r'"([0-9a-f]{80})"', text))

    async def are_readable(self, names: Iterable[str]) -> None:
        """Every byte of what is kept of them."""

        async def read(name: str) -> None:
            assert len(await self.read(name)) == 120_000

        await at_once(read, names)

    async def come_back(self, names: Iterable[str]) -> None:
        """Each in another browser, with what it had stored: what its artifact says, too."""

        async def come_back(name: str) -> None:
            noise = await self.read(name)
            reply = await self._agent.back("browser_evaluate", session_id=name, function=STORED)
            assert reply.result == [120_000, noise[:64], noise[-64:]]

        await at_once(come_back, names)

    async def are_unknown(self, names: Iterable[str]) -> None:
        """Their cursors lead nowhere."""
        for name in names:
            reply = await self._agent.call("browser_read_cursor", cursor=self.cursors[name])
            assert reply.code == "handle_unknown_or_expired", reply


async def at_once(act: Callable[[str], Awaitable[None]], names: Iterable[str]) -> None:
    """Acts on each, some at a time."""
    limit = anyio.CapacityLimiter(AT_ONCE)

    async def one(name: str) -> None:
        async with limit:
            await act(name)

    async with anyio.create_task_group() as tasks:
        for name in names:
            tasks.start_soon(one, name)


async def comes_to(home: Home, kept: Kept, what: str, within: float) -> None:
    """There is so much, in the end."""
    try:
        await eventually(lambda: home.kept() == kept, what, within)
    except AssertionError:
        assert home.kept() == kept, what


async def is_kept(home: Home, names: set[str], kept: Kept) -> None:
    """There is something of these sessions, so much, and nothing of any other."""

    def so() -> bool:
        return (len(home.names()), home.kept()) == (len(names), kept)

    await eventually(so, f"{len(names)} sessions with {kept}, and not {len(home.names())} with {home.kept()}")
    if isinstance(home, Alone):
        assert home.told() == kept
    found = home.names()
    assert found == names or found == {f"{number}" for number in range(len(names))}, found


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("number", [SHORT, LONG])
async def test_what_has_ended_leaves_nothing(store: str, number: int, pages: Pages, tmp_path: Path) -> None:
    """By every way but time."""
    names = {way: {f"{way}-{at}" for at in range(number)} for way in WAYS}
    with home(store, tmp_path / "state", **ROOM) as there:
        connect = there.connect()
        async with connect("http-modern") as agent:
            sessions = Sessions(agent, pages)
            async with AsyncExitStack() as connections:
                leaving = [await connections.enter_async_context(connect("http-legacy")) for _ in range(number)]
                names["deleted"] = {await sessions.fill_own(each) for each in leaving}
                everybody = set().union(*names.values())
                await sessions.fill(everybody - names["deleted"])
                await is_kept(there, everybody, Kept(5 * number, 5 * number))
                await sessions.call("session_close", names["closed"])
                await sessions.call("browser_close", names["freed"])
                await is_kept(there, everybody - names["closed"], Kept(4 * number, 3 * number))
            # The clients have sent their DELETE.
            left = names["freed"] | names["crashed"] | names["stays"]
            await is_kept(there, left, Kept(3 * number, 2 * number))
            for browser in there.browsers():
                browser.kill()
            await is_kept(there, left, Kept(3 * number, 2 * number))
            await sessions.call("session_close", names["crashed"])
            left -= names["crashed"]
            await is_kept(there, left, Kept(2 * number, number))
            if store != "memory":
                there.drain()
                await is_kept(there, left, Kept(2 * number, number))
            await sessions.are_readable(names["freed"])
            await sessions.come_back(names["stays"])
            await sessions.call("session_close", names["freed"])
            await is_kept(there, names["stays"], Kept(number, number))
            await sessions.are_readable(names["stays"])
            await sessions.are_unknown(everybody - names["stays"])
            await sessions.call("session_close", names["stays"])
            await is_kept(there, set(), Kept(0, 0))


#: The shortest there is, and what is enough for both.
IDLE, LONGEST = 60.0, 90.0


@pytest.mark.fleet
@pytest.mark.timeout(300)
@pytest.mark.parametrize("store", STORES)
async def test_what_has_lapsed_leaves_nothing(store: str, pages: Pages, tmp_path: Path) -> None:
    """First it is parked, without its artifacts; when its longest lifetime is over nothing is left. Those who came later stay."""
    number = 25
    lapsing, later = {f"lapsing-{at}" for at in range(number)}, {f"later-{at}" for at in range(number)}
    times = {"SESSION__IDLE_TTL": f"{IDLE:.0f}s", "SESSION__MAX_LIFETIME": f"{LONGEST:.0f}s"}
    with home(store, tmp_path / "state", **ROOM, **times) as there:
        async with there.connect()("http-modern") as agent:
            sessions = Sessions(agent, pages)
            started = time.monotonic()
            await sessions.fill(lapsing)
            await is_kept(there, lapsing, Kept(number, number))
            filled = time.monotonic()
            assert filled - started < LONGEST - IDLE, "the first would be over before the last is parked"
            await comes_to(there, Kept(0, number), "they are parked", IDLE + 15)
            await sessions.are_unknown(lapsing)
            await sessions.fill(later)
            over = filled + LONGEST - time.monotonic()
            await comes_to(there, Kept(number, number), "their longest lifetime is over", over + 15)
            await is_kept(there, later, Kept(number, number))
            await sessions.are_readable(later)
            await sessions.call("session_close", later)
            await is_kept(there, set(), Kept(0, 0))


@pytest.mark.parametrize("kind", ("stdio-modern", "stdio-legacy"))
async def test_a_stdio_client_that_goes_leaves_no_row(kind: str, pages: Pages, tmp_path: Path) -> None:
    """In a directory of its own."""
    state = tmp_path / "state"
    settings = {**ROOM, "STORE__STATE_DIR": str(state)}
    names = {f"mine-{at}" for at in range(3)}
    async with Connector("", settings)(kind) as agent:
        await Sessions(agent, pages).fill(names)
        rowed = "SELECT count(*), count(checkpoint), (SELECT count(*) FROM artifacts) FROM sessions"
        await eventually(lambda: rows(state, rowed) == [(3, 3, 3)], "everything is kept")
    assert rows(state, rowed) == [(0, 0, 0)]
    assert rows(state, "SELECT count(*) FROM connections") == [(0,)]


@pytest.mark.parametrize("kind", ("stdio-modern", "stdio-legacy"))
async def test_a_stdio_client_that_goes_leaves_no_key(kind: str, pages: Pages, tmp_path: Path) -> None:
    """In a Redis where others are."""
    with home("redis", tmp_path, **ROOM) as there:
        redis: Redis = there.fleet.redis
        theirs, mine = {f"theirs-{at}" for at in range(3)}, {f"mine-{at}" for at in range(3)}
        async with there.connect()("http-modern") as other:
            others = Sessions(other, pages)
            await others.fill(theirs)
            async with Connector("", {**ROOM, "STORE__URL": redis.url})(kind) as agent:
                await Sessions(agent, pages).fill(mine)
                await eventually(lambda: kept_in(redis) == Kept(6, 6), "everything is kept")
                assert names_in(redis) == mine | theirs
            await is_kept(there, theirs, Kept(3, 3))
            await others.are_readable(theirs)
            await others.call("session_close", theirs)

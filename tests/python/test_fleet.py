"""Several front ends and daemons are one server: whichever gets a request, the answer is the same."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest

import fleet as fleets
from clients import HTTP, TYPESCRIPT, Agent
from fleet import Fleet
from legacy import Legacy
from pages import Pages, wait_at
from test_journey import TOOLS, png_size
from waiting import BOUND, eventually

#: Every kind of client that speaks HTTP.
CLIENTS = (*HTTP, "fastmcp", *TYPESCRIPT)


@pytest.fixture(scope="module")
def running_fleet() -> Iterator[Fleet]:
    """Shared by the tests of this file, none of which breaks anything."""
    with fleets.running() as fleet:
        yield fleet


@pytest.fixture
def fleet(running_fleet: Fleet) -> Iterator[Fleet]:
    """The fleet. After each test it has to be as it was before."""
    yield running_fleet
    running_fleet.assert_as_before()


@pytest.mark.parametrize("kind", CLIENTS)
async def test_an_agent_works_through_the_proxy(kind: str, fleet: Fleet, pages: Pages) -> None:
    """A day's work; no two requests in a row reach the same front end."""
    fleet.proxy.served.clear()
    async with fleet.connect()(kind) as agent:
        assert await agent.tools() == TOOLS
        page = await agent.ok("browser_navigate", url=pages.at("/"))
        page = await agent.ok("browser_snapshot")
        await agent.ok("browser_type", target=page.ref('textbox "Name"'), text="Ada L.")
        done = await agent.ok("browser_click", target=page.ref('button "Go"'))
        assert "Thank you, Ada L." in done.text
        picture = await agent.ok("browser_take_screenshot")
        assert [png_size(image) for image in picture.images] == [(1280, 720)]
        tabs = await agent.ok("browser_tabs", action="new", url=pages.at("/who"))
        assert "- 1: (current) [Who]" in tabs.text
        tabs = await agent.ok("browser_tabs", action="close", index=1)
        assert "[Done]" in tabs.text and "[Who]" not in tabs.text
        assert "No open tabs" in (await agent.ok("browser_close")).text
    served = [fleet.proxy.served[member.address] for member in fleet.front_ends]
    assert min(served) >= 4, f"answers came from {served}"


@pytest.mark.parametrize("kinds", [("http-modern", "http-legacy"), ("http-legacy", "typescript-v2")], ids="+".join)
async def test_two_agents_do_not_see_each_other(kinds: tuple[str, str], fleet: Fleet, pages: Pages) -> None:
    """Neither the page nor its cookies, whichever daemons hold their browsers."""
    connect = fleet.connect()
    async with connect(kinds[0]) as one, connect(kinds[1]) as other:
        await one.ok("browser_navigate", url=pages.at("/set?who=one"))
        await other.ok("browser_navigate", url=pages.at("/set?who=other"))
        for agent, who in ((one, "one"), (other, "other")):
            assert await agent.evaluate("() => [document.cookie, location.search]") == [f"who={who}", f"?who={who}"]


async def test_new_sessions_go_to_every_daemon(fleet: Fleet, pages: Pages) -> None:
    """With one of four browsers taken, the other daemon is the freer one."""
    connect = fleet.connect()
    async with connect("http-modern") as one, connect("http-modern") as two, connect("http-modern") as three:
        for agent in (one, two, three):
            await agent.ok("browser_navigate", url=pages.at("/"))
        assert fleet.leases() == 3
        assert fleet.holding() == fleet.daemons


async def test_a_call_is_cancelled_through_another_front_end(fleet: Fleet, pages: Pages) -> None:
    """The script would wait for the gate, which stays shut; the session is free for the next call at once."""
    here, there = fleet.front_ends
    gate = "/gate/fleet-cancel"
    async with Legacy() as client:
        await client.initialize(here)
        await client.text(there, "browser_navigate", url=pages.at("/"))
        answers: list[tuple[int, str]] = []

        async def wait() -> None:
            answer = await client.call(here, "browser_evaluate", number=77, function=wait_at(gate))
            answers.append((answer.status_code, answer.text))

        async with anyio.create_task_group() as calls:
            calls.start_soon(wait)
            await eventually(lambda: pages.visits(gate), "the call runs")
            assert fleet.serving() == [here]
            cancelled = await client.notify(there, "notifications/cancelled", {"requestId": 77})
            assert cancelled.status_code == 202
        # A cancelled request is not answered.
        assert answers == [(202, "")]
        assert "Hello" in await client.text(there, "browser_snapshot")
        assert (await client.delete(here)).status_code == 204


async def test_the_event_stream_is_on_one_front_end_at_a_time(fleet: Fleet) -> None:
    """The newest one is the only one, and it ends with its connection, wherever that is ended."""
    here, there = fleet.front_ends
    async with Legacy() as client:
        await client.initialize(here)
        async with client.stream(here) as first:
            assert first.status_code == 200
            async with client.stream(there) as second:
                assert second.status_code == 200
                with anyio.fail_after(BOUND):
                    assert (await first.aread()).startswith(b": open")
                assert (await client.delete(here)).status_code == 204
                with anyio.fail_after(BOUND):
                    await second.aread()


async def test_a_deleted_connection_is_unknown_everywhere(fleet: Fleet, pages: Pages) -> None:
    """DELETE at one front end ends what runs at the other, and the browser; then every request is told so."""
    here, there = fleet.front_ends
    gate = "/gate/fleet-delete"
    async with Legacy() as client:
        await client.initialize(there)
        await client.text(there, "browser_navigate", url=pages.at("/"))
        ended: list[int] = []

        async def wait() -> None:
            ended.append((await client.call(here, "browser_evaluate", function=wait_at(gate))).status_code)

        async with anyio.create_task_group() as calls:
            calls.start_soon(wait)
            await eventually(lambda: pages.visits(gate), "the call runs")
            assert (await client.delete(there)).status_code == 204
        assert len(ended) == 1
        await eventually(lambda: fleet.leases() == 0, "the browser is given back")
        for member in fleet.front_ends:
            assert (await client.call(member, "browser_snapshot")).status_code == 404
            assert (await client.notify(member, "notifications/cancelled", {"requestId": 1})).status_code == 404
            assert (await client.delete(member)).status_code == 404
            async with client.stream(member) as stream:
                assert stream.status_code == 404


async def test_calls_of_one_session_take_turns_across_front_ends(fleet: Fleet, pages: Pages) -> None:
    """No call sees another one's half-done work, whichever front ends they come through."""
    script = """async () => { const seen = window.count || 0; await new Promise(done => setTimeout(done, 5));
      window.count = seen + 1; return seen }"""
    seen: list[int] = []
    here, there = fleet.front_ends
    async with fleet.connect(here)("http-modern") as one, fleet.connect(there)("http-modern") as other:
        await one.ok("browser_navigate", url=pages.at("/"))

        async def count(agent: Agent) -> None:
            reply = await agent.ok("browser_evaluate", function=script, session_id=one.session)
            seen.append(reply.result)

        async with anyio.create_task_group() as calls:
            for _ in range(6):
                calls.start_soon(count, one)
                calls.start_soon(count, other)
    assert sorted(seen) == list(range(12))


async def test_waiting_calls_keep_their_order_across_front_ends(fleet: Fleet, pages: Pages) -> None:
    """The next call is made, through the other front end, once the last says that it waits. The page keeps the order."""
    gate, turns = "/gate/fleet-turns", dict[int, int]()
    here, there = fleet.front_ends
    async with fleet.connect(here)("http-modern") as one, fleet.connect(there)("http-modern") as other:
        await one.ok("browser_navigate", url=pages.at("/"))
        handle = one.session

        async def call(agent: Agent, number: int, waiting: anyio.Event) -> None:
            async def says_so(progress: float, total: float | None, message: str | None) -> None:
                waiting.set()

            script = "() => (window.turns ||= []).push(0)"
            reply = await agent.ok("browser_evaluate", function=script, session_id=handle, progress=says_so)
            turns[number] = reply.result

        async with anyio.create_task_group() as calls:
            calls.start_soon(one.evaluate, wait_at(gate))
            await eventually(lambda: pages.visits(gate), "the call before them runs")
            for number in range(1, 5):
                waiting = anyio.Event()
                calls.start_soon(call, (one, other)[number % 2], number, waiting)
                with anyio.fail_after(BOUND):
                    await waiting.wait()
            pages.open(gate)
    assert turns == {1: 1, 2: 2, 3: 3, 4: 4}

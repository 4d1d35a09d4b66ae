"""Two clients at once: what one does is never seen by the other."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from clients import HTTP, MCP, Agent, Connector
from pages import Pages, wait_at
from programs import Program
from waiting import BOUND, eventually

#: Chromium gives pages the clipboard only after a prompt that nobody can answer here. This lets `execCommand` use it,
#: so that a test can show the clipboard at work in one browser before it shows that another one's is empty.
SETTINGS = {"BROWSER__ARGS": '["--blink-settings=javaScriptCanAccessClipboard=true,DOMPasteAllowed=true"]'}

#: Each era against itself, and the eras against each other.
PAIRS = [("http-modern", "http-modern"), ("http-legacy", "http-legacy"), ("http-modern", "http-legacy")]

COPY = """() => {
  const field = document.querySelector('#from');
  field.value = 'a secret';
  field.select();
  return document.execCommand('copy');
}"""
PASTE = """() => {
  const field = document.querySelector('#to');
  field.focus();
  document.execCommand('paste');
  return field.value;
}"""


@asynccontextmanager
async def two(connect: Connector, kinds: tuple[str, str]) -> AsyncIterator[tuple[Agent, Agent]]:
    """Two agents that are connected at the same time."""
    async with connect(kinds[0]) as one, connect(kinds[1]) as other:
        yield one, other


@pytest.mark.parametrize("kinds", PAIRS, ids="+".join)
async def test_pages_are_not_shared(kinds: tuple[str, str], connect: Connector, pages: Pages) -> None:
    """Each agent is where it went itself, whatever the other does meanwhile."""
    async with two(connect, kinds) as (one, other):
        await one.ok("browser_navigate", url=pages.at("/"))
        await other.ok("browser_navigate", url=pages.at("/clipboard"))
        await one.evaluate("() => { window.name = 'one'; document.title = 'changed by one'; return 1 }")
        assert await other.evaluate("() => [window.name, document.title]") == ["", "Clipboard"]
        assert f"Page URL: {pages.at('/')}\n" in (await one.ok("browser_snapshot")).text
        assert f"Page URL: {pages.at('/clipboard')}\n" in (await other.ok("browser_snapshot")).text


@pytest.mark.parametrize("kinds", PAIRS, ids="+".join)
async def test_cookies_and_storage_are_not_shared(kinds: tuple[str, str], connect: Connector, pages: Pages) -> None:
    """Not as the page sees them, and not as the server gets them."""
    store = "() => { localStorage.setItem('who', 'one'); return document.cookie }"
    async with two(connect, kinds) as (one, other):
        await one.ok("browser_navigate", url=pages.at("/set?who=one"))
        assert await one.evaluate(store) == "who=one"
        await other.ok("browser_navigate", url=pages.at("/who"))
        assert await other.evaluate("() => [document.cookie, localStorage.length]") == ["", 0]
        assert "cookies sent: none" in (await other.ok("browser_navigate", url=pages.at("/who"))).text
        assert "cookies sent: who=one" in (await one.ok("browser_navigate", url=pages.at("/who"))).text


@pytest.mark.parametrize("kinds", PAIRS, ids="+".join)
async def test_the_clipboard_is_not_shared(kinds: tuple[str, str], connect: Connector, pages: Pages) -> None:
    """Contexts of one Chromium process share it, so this is what a process for each session is for."""
    async with two(connect, kinds) as (one, other):
        for agent in (one, other):
            await agent.ok("browser_navigate", url=pages.at("/clipboard"))
        assert await one.evaluate(COPY) is True
        assert await one.evaluate(PASTE) == "a secret", "the clipboard works, or the next line would say nothing"
        assert await other.evaluate(PASTE) == ""


async def test_the_next_session_gets_nothing_of_the_last(connect: Connector, pages: Pages) -> None:
    """A browser is never handed on."""
    async with connect("http-modern") as one:
        await one.ok("browser_navigate", url=pages.at("/set?who=one"))
    async with connect("http-modern") as other:
        assert "cookies sent: none" in (await other.ok("browser_navigate", url=pages.at("/who"))).text


async def test_a_connection_lists_its_own_sessions_only(connect: Connector, pages: Pages) -> None:
    """Without authentication a handle is all that protects a session, so nobody else may read it."""
    async with two(connect, ("http-legacy", "http-legacy")) as (one, other):
        opened = await one.ok("browser_open")
        handle = opened.structured["session_id"]
        await other.ok("browser_navigate", url=pages.at("/"))
        mine, theirs = await one.ok("session_list"), await other.ok("session_list")
        assert [session["session_id"] for session in mine.structured["sessions"]] == [handle]
        assert len(theirs.structured["sessions"]) == 1 and handle not in theirs.text + str(theirs.structured)


async def test_a_modern_caller_learns_only_how_many_there_are(connect: Connector, server: Program) -> None:
    """It has no connection, so no session is known to be its own; the operator's list has no handles either."""
    async with connect("http-modern") as agent:
        handle = (await agent.ok("browser_open")).structured["session_id"]
        listed = await agent.ok("session_list")
        assert listed.structured["count"] >= 1
        assert handle not in listed.text + str(listed.structured)
        assert handle not in str(server.get("/sessions"))


@pytest.mark.parametrize("kind", HTTP)
async def test_a_handle_works_wherever_it_is_said(kind: str, connect: Connector, pages: Pages) -> None:
    """One session may be used over any connection of its owner: by who knows the handle, and by nobody else."""
    async with two(connect, ("http-modern", kind)) as (one, other):
        handle = (await one.ok("browser_navigate", url=pages.at("/set?who=one"))).structured["session_id"]
        script = "() => document.cookie"
        assert (await other.ok("browser_evaluate", function=script, session_id=handle)).result == "who=one"
        guessed = handle[:-1] + ("0" if handle[-1] != "0" else "1")
        wrong = await other.call("browser_evaluate", function=script, session_id=guessed)
        assert wrong.code == "handle_unknown_or_expired"


@pytest.mark.parametrize("kind", MCP)
async def test_calls_of_one_session_take_turns(kind: str, connect: Connector, pages: Pages) -> None:
    """No call sees another one's half-done work, and each gets its own answer."""
    script = """async () => { const seen = window.count || 0; await new Promise(done => setTimeout(done, 5));
      window.count = seen + 1; return seen }"""
    answers: list[int] = []

    async with connect(kind) as agent:
        await agent.ok("browser_navigate", url=pages.at("/"))

        async def count() -> None:
            answers.append(await agent.evaluate(script))

        async with anyio.create_task_group() as calls:
            for _ in range(10):
                calls.start_soon(count)
    assert sorted(answers) == list(range(10))


@pytest.mark.parametrize("kind", MCP)
async def test_waiting_calls_are_answered_in_the_order_of_their_coming(
    kind: str, connect: Connector, pages: Pages
) -> None:
    """The next call is made once the last says that it waits: then there is an order to keep. The page keeps it."""
    gate = f"/gate/turns-{kind}"
    turns: dict[str, int] = {}
    async with connect(kind) as agent:
        await agent.ok("browser_navigate", url=pages.at("/"))

        async def call(name: str, waiting: anyio.Event) -> None:
            async def says_so(progress: float, total: float | None, message: str | None) -> None:
                waiting.set()

            script = "() => (window.turns ||= []).push(0)"
            turns[name] = (await agent.ok("browser_evaluate", function=script, progress=says_so)).result

        async with anyio.create_task_group() as calls:
            calls.start_soon(agent.evaluate, wait_at(gate))
            await eventually(lambda: pages.visits(gate), "the call before them runs")
            for name in ("first", "second", "third", "fourth"):
                waiting = anyio.Event()
                calls.start_soon(call, name, waiting)
                with anyio.fail_after(BOUND):
                    await waiting.wait()
            pages.open(gate)
    assert turns == {"first": 1, "second": 2, "third": 3, "fourth": 4}


@pytest.mark.parametrize("kinds", PAIRS, ids="+".join)
async def test_equal_request_ids_are_two_requests(kinds: tuple[str, str], connect: Connector, pages: Pages) -> None:
    """Every client counts from the same number. Giving up one call must not end the other's, nor take its answer."""
    mine, theirs = (f"/gate/ids-{'-'.join(kinds)}-{name}" for name in ("one", "other"))
    answers: list[str] = []

    async with two(connect, kinds) as (one, other):
        for agent in (one, other):
            await agent.ok("browser_navigate", url=pages.at("/"))

        async def wait() -> None:
            answers.append(await other.evaluate(wait_at(theirs)))

        async with anyio.create_task_group() as calls:
            calls.start_soon(wait)
            await eventually(lambda: pages.visits(theirs), "the other's call runs")
            await _give_up(one, mine, pages)
            assert await one.evaluate("() => 'still here'") == "still here"
            pages.open(theirs)
    assert answers == ["let through"]


async def test_many_clients_at_once(connect: Connector, pages: Pages) -> None:
    """As many as there are browsers; each reads back its own mark, after all have written theirs."""
    written = [anyio.Event() for _ in range(5)]
    seen: list[tuple[int, str]] = []

    async def visit(number: int) -> None:
        async with connect(HTTP[number % len(HTTP)]) as agent:
            await agent.ok("browser_navigate", url=pages.at(f"/set?who={number}"))
            written[number].set()
            for event in written:
                await event.wait()
            text = (await agent.ok("browser_navigate", url=pages.at("/who"))).text
            seen.append((number, "".join(re.findall(r"cookies sent: who=(\d+)", text))))

    async with anyio.create_task_group() as agents:
        for number in range(5):
            agents.start_soon(visit, number)
    assert sorted(seen) == [(number, str(number)) for number in range(5)]


async def _give_up(agent: Agent, gate: str, pages: Pages) -> None:
    """Makes a call that runs, and cancels it."""
    async with anyio.create_task_group() as calls:
        calls.start_soon(agent.evaluate, wait_at(gate))
        await eventually(lambda: pages.visits(gate), "the call runs")
        calls.cancel_scope.cancel()

"""What goes wrong costs its call and not its session, and says so in a way a program can act upon."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from mcp import MCPError

from clients import HTTP, MCP, Agent, Connector, Reply
from pages import Pages, beat_forever, loop_after, wait_at
from processes import Process
from programs import Launcher, Program
from waiting import BOUND, eventually

#: Short enough to be waited for, long enough for what should succeed while the machine is busy.
SETTINGS = {"TOOL__SCRIPT_TIMEOUT": "2s", "TOOL__NAVIGATION_TIMEOUT": "4s", "TOOL__ACTION_TIMEOUT": "2s"}

ENDLESS = "() => { for (;;); }"

#: So long that whoever waits for it has not given up the call.
PATIENT = {"TOOL__SCRIPT_TIMEOUT": "60s"}

NOT_THE_WEB = (
    "file:///etc/passwd",
    "FILE:/etc/passwd",
    " file:///etc/passwd",
    "view-source:file:///etc/passwd",
    "chrome://version",
    "javascript:alert(1)",
    "http://user:secret@127.0.0.1/",
)

#: The browser had gone before the call, or went under it: which one is a matter of milliseconds.
LOST = ("browser_gone", "lease_lost")

#: What is lost without a checkpoint; with one, see `test_state`.
UNKEPT = {"CHECKPOINTS__ENABLED": "false"}


@pytest.mark.parametrize("kind", MCP)
async def test_an_endless_script_is_stopped(kind: str, connect: Connector, pages: Pages) -> None:
    """The page is as it was: it has been freed, not replaced."""
    async with connect(kind) as agent:
        await agent.ok("browser_navigate", url=pages.at("/"))
        await agent.evaluate("() => { window.kept = 7; return 1 }")
        assert (await agent.call("browser_evaluate", function=ENDLESS)).code == "page_hung"
        assert "Hello" in (await agent.ok("browser_snapshot")).text
        assert await agent.evaluate("() => window.kept") == 7


@pytest.mark.parametrize("kind", HTTP)
async def test_a_click_that_hangs_the_page_ends(kind: str, connect: Connector, pages: Pages) -> None:
    """Here the page's own code loops, started by a real click."""
    async with connect(kind) as agent:
        page = await agent.ok("browser_navigate", url=pages.at("/loop"))
        with anyio.fail_after(2 * BOUND):
            hung = await agent.call("browser_click", target=page.ref('button "Hang"'))
        assert hung.code == "page_hung"
        assert "Hello" in (await agent.ok("browser_navigate", url=pages.at("/"))).text


@pytest.mark.parametrize("kind", (*HTTP, "stdio-modern"))
async def test_a_navigation_that_never_answers_ends(kind: str, connect: Connector, pages: Pages) -> None:
    """The page before it stays."""
    async with connect(kind) as agent:
        await agent.ok("browser_navigate", url=pages.at("/"))
        assert (await agent.call("browser_navigate", url=pages.at("/never"))).code == "navigation_timeout"
        assert "Hello" in (await agent.ok("browser_snapshot")).text
        assert "Thank you" in (await agent.ok("browser_navigate", url=pages.at("/done"))).text


@pytest.mark.parametrize("kind", HTTP)
async def test_a_browser_killed_during_a_call(
    kind: str, launch: Launcher, pages: Pages, request: pytest.FixtureRequest
) -> None:
    """The call ends at once, with a reason; the session goes on with a new browser, and is told so."""
    program, gate = launch("--max-browsers=1", **UNKEPT), f"/gate/{request.node.name}"
    async with Connector(program.mcp)(kind) as agent:
        await agent.ok("browser_navigate", url=pages.at("/set?who=before"))
        replies: list[Reply] = []

        async def hang() -> None:
            replies.append(await agent.call("browser_evaluate", function=wait_at(gate)))

        async with anyio.create_task_group() as calls:
            calls.start_soon(hang)
            await eventually(lambda: pages.visits(gate), "the call runs")
            kill_browser(program)
        assert [reply.code for reply in replies] == ["browser_gone"]
        assert "previous browser was lost" in (await goes_on_with_a_new_browser(agent, pages)).text


@pytest.mark.parametrize("kind", HTTP)
async def test_a_browser_killed_between_calls(kind: str, launch: Launcher, pages: Pages) -> None:
    """A tool that needs the page says that it is lost, instead of showing an empty one."""
    program = launch("--max-browsers=1", **UNKEPT)
    async with Connector(program.mcp)(kind) as agent:
        await agent.ok("browser_navigate", url=pages.at("/set?who=before"))
        kill_browser(program)
        lost = await agent.call("browser_snapshot")
        assert lost.code in LOST and "browser_navigate" in lost.text
        await goes_on_with_a_new_browser(agent, pages)


@pytest.mark.parametrize("kind", HTTP)
async def test_navigation_after_a_killed_browser_goes_on_by_itself(kind: str, launch: Launcher, pages: Pages) -> None:
    """It would be the next step anyway; but the agent must know that its cookies are gone."""
    program = launch("--max-browsers=1", **UNKEPT)
    async with Connector(program.mcp)(kind) as agent:
        await agent.ok("browser_navigate", url=pages.at("/set?who=before"))
        killed = kill_browser(program)
        # There is room for one, so the program has noticed when there is another.
        await eventually(lambda: [one for one in program.browsers() if one.pid != killed.pid], "a new browser is there")
        assert "previous browser was lost" in (await goes_on_with_a_new_browser(agent, pages)).text


@pytest.mark.parametrize("kind", MCP)
async def test_giving_up_a_call_stops_its_script(kind: str, launch: Launcher, pages: Pages) -> None:
    """The script would go on for a minute. The next call has its turn soon, and finds the page as it was."""
    beat = f"/beat/once-{kind}"
    program = launch(**PATIENT) if kind in HTTP else None
    async with (Connector(program.mcp) if program else Connector("", PATIENT))(kind) as agent:
        await agent.ok("browser_navigate", url=pages.at("/"))
        await give_up(agent, loop_after(beat), lambda: pages.visits(beat))
        with anyio.fail_after(2 * BOUND):
            assert "Hello" in (await agent.ok("browser_snapshot")).text
    if program:
        assert_no_errors_in(program)


@pytest.mark.parametrize("kind", MCP)
async def test_a_client_that_loses_patience_stops_its_script(kind: str, launch: Launcher, pages: Pages) -> None:
    """As above; here the client's own deadline ends the call."""
    connector = Connector(launch(**PATIENT).mcp) if kind in HTTP else Connector("", PATIENT)
    async with connector(kind) as agent:
        await agent.ok("browser_navigate", url=pages.at("/"))
        with pytest.raises(MCPError):
            await agent.call("browser_evaluate", function=ENDLESS, patience=1.0)
        with anyio.fail_after(2 * BOUND):
            assert "Hello" in (await agent.ok("browser_snapshot")).text


@pytest.mark.parametrize("kind", HTTP)
async def test_what_was_given_up_does_nothing_more(kind: str, launch: Launcher, pages: Pages) -> None:
    """A script that is mostly inside a blocking request is harder to stop: the page may have to go for it."""
    beat = f"/beat/ever-{kind}"
    async with Connector(launch(**PATIENT).mcp)(kind) as agent:
        await agent.ok("browser_navigate", url=pages.at("/"))
        await give_up(agent, beat_forever(beat), lambda: pages.visits(beat) > 3)
        beats, last = 0, -1
        with anyio.fail_after(2 * BOUND):
            while beats != last:
                await agent.ok("browser_navigate", url=pages.at("/who"))
                beats, last = pages.visits(beat), beats


async def test_a_call_that_waits_can_be_given_up(launch: Launcher, pages: Pages) -> None:
    """It never runs, and the call before it is not disturbed."""
    program, gate = launch(**PATIENT), "/gate/given-up"
    async with Connector(program.mcp)("http-modern") as agent:
        await agent.ok("browser_navigate", url=pages.at("/"))
        answers: list[str] = []

        async def first() -> None:
            answers.append(await agent.evaluate(wait_at(gate)))

        async with anyio.create_task_group() as calls:
            calls.start_soon(first)
            await eventually(lambda: pages.visits(gate), "the first call runs")
            await give_up_waiting(agent)
            # The client goes on before the server has noticed that it hung up.
            await eventually(lambda: program.get("/health")["active_calls"] == 1, "the server gives the call up, too")
            pages.open(gate)
        assert answers == ["let through"]
        assert await agent.evaluate("() => window.ran || 'never'") == "never"
    assert_no_errors_in(program)


@pytest.mark.parametrize("kind", MCP)
async def test_wrong_arguments_are_answers_of_the_tool(kind: str, connect: Connector, pages: Pages) -> None:
    """So that the model reads what is wrong, and corrects itself."""
    async with connect(kind) as agent:
        await agent.ok("browser_navigate", url=pages.at("/"))
        wrong: list[tuple[str, dict[str, Any], str]] = [
            ("browser_click", {"target": 5}, "target"),
            ("browser_click", {}, "target"),
            ("browser_click", {"target": "e1", "button": "fourth"}, "button"),
            ("browser_navigate", {"url": pages.at("/"), "speed": 3}, "speed"),
            ("browser_navigate", {"url": "http://"}, "http://"),
            ("browser_open", {"width": 3}, "width"),
            ("browser_snapshot", {"depth": -1}, "depth"),
            ("browser_snapshot", {"session_id": 7}, "session_id"),
            ("browser_snapshot", {"session_id": "a b"}, "session_id"),
        ]
        for tool, arguments, named in wrong:
            reply = await agent.call(tool, **arguments)
            assert reply.code == "invalid_argument" and named in reply.text, f"{tool} {arguments}: {reply}"
        assert "Hello" in (await agent.ok("browser_snapshot")).text


@pytest.mark.parametrize("kind", MCP)
async def test_an_unknown_tool_is_an_error_of_the_protocol(kind: str, connect: Connector) -> None:
    """It is the client that is wrong here, not the model."""
    async with connect(kind) as agent:
        with pytest.raises(MCPError) as refused:
            await agent.call("browser_juggle")
        assert refused.value.error.code == -32602 and "browser_juggle" in refused.value.error.message


@pytest.mark.parametrize("kind", MCP)
async def test_an_unknown_session_says_how_to_get_one(kind: str, connect: Connector) -> None:
    """The same words for one that never was and one that has ended."""
    async with connect(kind) as agent:
        handle = (await agent.ok("browser_open")).structured["session_id"]
        never = await agent.call("browser_snapshot", session_id="bs_" + "0" * 32)
        assert never.code == "handle_unknown_or_expired" and "browser_open" in never.text
        if kind == "http-modern":
            await agent.ok("session_close")
            ended = await agent.call("browser_snapshot", session_id=handle)
            assert (ended.code, ended.text) == (never.code, never.text)
            agent.session = None


async def test_a_modern_call_without_a_session_says_how_to_get_one(connect: Connector) -> None:
    """There is no connection to have one, and guessing would hand out somebody else's."""
    async with connect("http-modern") as agent:
        reply = await agent.call("browser_snapshot")
        assert reply.code == "invalid_argument" and "browser_open" in reply.text


@pytest.mark.parametrize("kind", HTTP)
async def test_addresses_that_are_not_the_webs_are_refused(kind: str, connect: Connector, pages: Pages) -> None:
    """Files of the machine are nobody's page."""
    async with connect(kind) as agent:
        await agent.ok("browser_navigate", url=pages.at("/"))
        for url in NOT_THE_WEB:
            reply = await agent.call("browser_navigate", url=url)
            assert reply.code == "url_blocked" and "root:" not in reply.text, f"{url}: {reply}"
        assert "Hello" in (await agent.ok("browser_snapshot")).text


async def test_a_server_that_is_not_there_is_said_so(connect: Connector, pages: Pages) -> None:
    """Chromium's word for it, without its error page in the reply."""
    async with connect("http-modern") as agent:
        await agent.ok("browser_navigate", url=pages.at("/"))
        reply = await agent.call("browser_navigate", url="http://127.0.0.1:9/")
        assert reply.code == "navigation_failed" and "ERR_" in reply.text


def assert_no_errors_in(program: Program) -> None:
    """A client that gives up is nothing an operator has to look at."""
    errors = [line for line in program.place.read_log().splitlines() if "ERROR" in line]
    assert errors == []


def kill_browser(program: Program) -> Process:
    """SIGKILL to the main process of the program's only browser."""
    [browser] = program.browsers()
    browser.kill()
    return browser


async def goes_on_with_a_new_browser(agent: Agent, pages: Pages) -> Reply:
    """The session is usable, in a browser that knows nothing of the old one."""
    page = await agent.ok("browser_navigate", url=pages.at("/who"))
    assert "cookies sent: none" in page.text
    assert "cookies sent: none" in (await agent.ok("browser_snapshot")).text
    return page


async def give_up(agent: Agent, script: str, runs: Callable[[], object]) -> None:
    """Makes a call, and cancels it once its script is known to run."""

    async def call() -> None:
        await agent.call("browser_evaluate", function=script)

    async with anyio.create_task_group() as calls:
        calls.start_soon(call)
        await eventually(runs, "the script runs")
        calls.cancel_scope.cancel()


async def give_up_waiting(agent: Agent) -> None:
    """Makes a call that has to wait for its turn, and cancels it once it says so."""
    waiting = anyio.Event()

    async def says_so(progress: float, total: float | None, message: str | None) -> None:
        waiting.set()

    async def late() -> None:
        await agent.call("browser_evaluate", function="() => { window.ran = 'ran' }", progress=says_so)

    async with anyio.create_task_group() as calls:
        calls.start_soon(late)
        with anyio.fail_after(BOUND):
            await waiting.wait()
        calls.cancel_scope.cancel()

"""Sessions that outlive the one-process program (`--state-dir`), and browsers of it that die."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import processes
from clients import HTTP, Connector
from pages import Pages
from programs import Launcher, Place, Program, free_address
from waiting import eventually

REMEMBERED = "login=me me mine"
WHO = "() => document.getElementById('who').textContent"


@contextmanager
def running(place: Place, address: str, state: Path) -> Iterator[Program]:
    """The program, at the same address and over the same directory as before."""
    arguments = ["serve", "--listen", address, "--state-dir", str(state)]
    program = Program("browserfleet", arguments, place, address, ready_at=address)
    try:
        yield program
    finally:
        program.destroy()


def restorable(program: Program) -> bool:
    """Whether every session has a checkpoint."""
    sessions = program.get("/sessions")["sessions"]
    return bool(sessions) and all(session["restorable"] for session in sessions)


async def end_and_forget(program: Program, end: signal.Signals) -> None:
    """Ends it so, and waits until none of its browsers is left."""
    program.send(end)
    assert program.wait() == (0 if end == signal.SIGTERM else -end)
    await eventually(lambda: not processes.reap_orphans(), "no browser is left")


@pytest.mark.parametrize("kind", HTTP)
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
async def test_a_session_outlives_the_program(
    end: signal.Signals, kind: str, place: Place, pages: Pages, tmp_path: Path
) -> None:
    """A client goes on where it was: its tab, what it is logged in to, what the page remembers. Refs from before mean nothing."""
    address, state = free_address(), tmp_path / "state"
    with ExitStack() as programs:
        program = programs.enter_context(running(place, address, state))
        async with Connector(program.mcp)(kind) as agent:
            shown = await agent.ok("browser_navigate", url=pages.at("/login"))
            assert REMEMBERED in shown.text
            await eventually(lambda: restorable(program), "what the session needs is kept")
            await end_and_forget(program, end)
            program = programs.enter_context(running(place, address, state))
            late = await agent.call("browser_click", target=shown.ref('button "Log out"'))
            assert late.is_error and "snapshot" in late.text and "Restored" in late.text, late.text
            again = await agent.ok("browser_snapshot")
            assert pages.at("/login") in again.text and REMEMBERED in again.text
            assert await agent.evaluate(WHO) == REMEMBERED
        program.stop()


@pytest.mark.parametrize("kind", HTTP)
async def test_a_browser_that_dies_is_replaced_and_shows_what_it_showed(
    kind: str, launch: Launcher, pages: Pages
) -> None:
    """The next call, whatever it is, finds the pages again, and says that they were loaded anew."""
    program = launch("--max-browsers=1")
    async with Connector(program.mcp)(kind) as agent:
        await agent.ok("browser_navigate", url=pages.at("/login"))
        await eventually(lambda: restorable(program), "what the session needs is kept")
        [browser] = program.browsers()
        browser.kill()
        shown = await agent.back("browser_snapshot")
        assert pages.at("/login") in shown.text and REMEMBERED in shown.text
        assert shown.structured["restored"]["cookies"] == 1, shown.structured


async def test_large_results_go_on_after_a_restart(place: Place, pages: Pages, tmp_path: Path) -> None:
    """A cursor of before still works: what it points to was kept."""
    address, state = free_address(), tmp_path / "state"
    with ExitStack() as programs:
        program = programs.enter_context(running(place, address, state))
        async with Connector(program.mcp)("http-modern") as agent:
            await agent.ok("browser_navigate", url=pages.at("/"))
            first = await agent.ok("browser_evaluate", function="() => Array.from({length: 10000}, (_, n) => 'line ' + n)")
            cursor = first.structured["next_cursor"]
            await end_and_forget(program, signal.SIGTERM)
            program = programs.enter_context(running(place, address, state))
            rest = await agent.ok("browser_read_cursor", cursor=cursor)
            assert "line " in rest.text and rest.structured["total_bytes"] > 100_000
        program.stop()

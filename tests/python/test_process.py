"""However a program ends, the process table and the profile directories are as before."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Self

import anyio
import anyio.to_thread
import pytest

import processes
from clients import HTTP, Agent, Connector, Reply
from pages import Pages, wait_at
from programs import Launcher, Place, Program, free_address, serve
from waiting import BOUND, eventually, until

#: Longer than a test waits: whoever is done before has not used it up.
LONG = "60s"

#: Seconds from the death of a daemon to that of its last process: the kernel ends browsers at once, their helpers follow.
GONE = 3.0


class Fleet:
    """A daemon, and front ends of it. Whatever happens they end with the block."""

    def __init__(self, place: Place) -> None:
        self._place, self._ends, self._grpc, admin = place, ExitStack(), free_address(), free_address()
        place.environment["BROWSERFLEET_DAEMON__DRAIN_GRACE"] = "1s"
        # The tests' pages are on this machine, which a daemon by itself keeps out of reach.
        place.environment["BROWSERFLEET_EGRESS__NETWORK"] = "local"
        self.daemon = self._start("pool-daemon", ["--listen", self._grpc, "--admin-listen", admin], admin)

    def front_end(self) -> Program:
        """One more front end."""
        address = free_address()
        return self._start("mcp-frontend", ["--listen", address, "--pool", f"http://{self._grpc}"], address)

    def _start(self, name: str, arguments: list[str], address: str) -> Program:
        program = Program(name, arguments, self._place, address, ready_at=address)
        self._ends.callback(program.destroy)
        return program

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()


class Call:
    """A call that is running while the test does something else."""

    def __init__(self, gate: str) -> None:
        self.gate = gate
        self.replies: list[Reply] = []

    async def make(self, agent: Agent) -> None:
        """Makes the call; it is answered once its gate opens, or when it is stopped."""
        self.replies.append(await agent.call("browser_evaluate", function=wait_at(self.gate)))

    @property
    def codes(self) -> list[str]:
        """How it ended, if it has."""
        return [reply.code for reply in self.replies]


@asynccontextmanager
async def killed(program: Program) -> AsyncIterator[Agent]:
    """An agent, under whose session the program is killed at the end of the block. No browser of it outlives that for long."""
    async with Connector(program.mcp)("http-modern") as agent:
        yield agent
        # There will be nobody to close it with.
        agent.session = None
        program.send(signal.SIGKILL)
        assert program.wait() == -signal.SIGKILL
        until(lambda: not processes.reap_orphans(), "no browser is left", within=GONE)


async def stopped(program: Program, number: signal.Signals = signal.SIGTERM) -> None:
    """Stops a program without stopping the clients in this event loop."""
    await anyio.to_thread.run_sync(program.stop, number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
async def test_open_sessions_end_with_the_program(number: signal.Signals, launch: Launcher, pages: Pages) -> None:
    """Clients are connected and have pages open; none of that may hold up the end."""
    program = launch()
    connect = Connector(program.mcp)
    async with connect("http-legacy") as one, connect("http-modern") as other:
        for agent in (one, other):
            await agent.ok("browser_navigate", url=pages.at("/"))
        assert len(program.browsers()) >= 2 and program.place.profiles() != []
        await stopped(program, number)
        other.session = None


@pytest.mark.parametrize("kind", HTTP)
async def test_a_running_call_is_finished_first(
    kind: str, launch: Launcher, pages: Pages, request: pytest.FixtureRequest
) -> None:
    """Its client gets the answer, after the signal."""
    program, call = launch(HTTP__DRAIN_TIMEOUT=LONG), Call(f"/gate/{request.node.name}")
    async with Connector(program.mcp)(kind) as agent:
        await agent.ok("browser_navigate", url=pages.at("/"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call.make, agent)
            await eventually(lambda: pages.visits(call.gate), "the call runs")
            tasks.start_soon(stopped, program)
            await eventually(lambda: "SIGTERM" in program.place.read_log(), "the program has got the signal")
            assert call.codes == []
            pages.open(call.gate)
        agent.session = None
    assert call.codes == ["ok"]


@pytest.mark.parametrize("kind", HTTP)
async def test_a_call_that_takes_too_long_is_told(
    kind: str, launch: Launcher, pages: Pages, request: pytest.FixtureRequest
) -> None:
    """The end has a deadline; the answer says that it is not the page's fault."""
    program, call = launch(HTTP__DRAIN_TIMEOUT="1s"), Call(f"/gate/{request.node.name}")
    async with Connector(program.mcp)(kind) as agent:
        await agent.ok("browser_navigate", url=pages.at("/"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call.make, agent)
            await eventually(lambda: pages.visits(call.gate), "the call runs")
            tasks.start_soon(stopped, program)
        agent.session = None
    assert call.codes == ["draining"]


async def test_a_log_that_nobody_reads_stops_nobody(place: Place, pages: Pages, tmp_path: Path) -> None:
    """A client that starts the program with a pipe for its log and never reads it still gets answers, and an end."""
    pipe = tmp_path / "log"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    filler = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    place.environment["BROWSERFLEET_LOG__LEVEL"] = "trace"
    program = serve(place, within=("sh", "-c", 'exec "$@" 2>"$0"', str(pipe)))
    try:
        with suppress(BlockingIOError):
            while os.write(filler, b"x"):
                pass
        async with Connector(program.mcp)("http-modern") as agent:
            # More calls, each a line, than there are threads that could be lost in writing one.
            for _ in range(20):
                await agent.ok("browser_navigate", url=pages.at("/"))
            # What nobody reads is counted, once more lines wait than may.
            with anyio.fail_after(3 * BOUND):
                while program.metric('browserfleet_log_lines_total{outcome="dropped"}') == 0:
                    await agent.ok("session_list")
        await stopped(program)
    finally:
        program.destroy()
        os.close(filler)
        os.close(reader)


async def test_a_second_signal_stops_at_once(launch: Launcher, pages: Pages) -> None:
    """It skips the wait for running calls, not the end of the browsers."""
    program, call = launch(HTTP__DRAIN_TIMEOUT=LONG), Call("/gate/second-signal")
    async with Connector(program.mcp)("http-modern") as agent:
        await agent.ok("browser_navigate", url=pages.at("/"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call.make, agent)
            await eventually(lambda: pages.visits(call.gate), "the call runs")
            program.send(signal.SIGTERM)
            await eventually(lambda: "SIGTERM" in program.place.read_log(), "the program has got the signal")
            await stopped(program)
        agent.session = None
    assert call.codes == ["draining"]


@pytest.mark.parametrize("stopped_first", [False, True], ids=["running", "stopped"])
async def test_kill_9_leaves_no_browser(stopped_first: bool, launch: Launcher, pages: Pages) -> None:
    """Nobody is left to clean up: the kernel ends the browsers, also those that cannot notice that their pipe is closed,
    and the next start removes their profiles."""
    program = launch()
    async with killed(program) as agent:
        await agent.ok("browser_navigate", url=pages.at("/"))
        if stopped_first:
            for browser in program.browsers():
                browser.send(signal.SIGSTOP)

    left = program.place.profiles()
    assert left != []
    follower = serve(program.place)
    try:
        assert not set(left) & set(program.place.profiles())
        follower.stop()
    finally:
        follower.destroy()


async def test_killed_browsers_are_no_burden_later(launch: Launcher, pages: Pages) -> None:
    """A browser that died by itself is cleaned up like any other."""
    program = launch()
    async with Connector(program.mcp)("http-modern") as agent:
        await agent.ok("browser_navigate", url=pages.at("/"))
        for browser in program.browsers():
            browser.kill()
        await stopped(program)
        agent.session = None


async def test_two_programs_are_a_fleet_of_one_machine(place: Place, pages: Pages) -> None:
    """The same calls, over gRPC on a port."""
    with Fleet(place) as fleet:
        front = fleet.front_end()
        async with Connector(front.mcp)("http-legacy") as agent:
            await agent.ok("browser_navigate", url=pages.at("/"))
            assert await agent.evaluate("() => document.title") == "Form"
            assert fleet.daemon.browsers() and not front.browsers()
        front.send(signal.SIGTERM)
        assert front.wait() == 0, place.read_log()
        assert fleet.daemon.get("/ready")
        fleet.daemon.stop()


async def test_the_daemon_survives_a_killed_front_end(place: Place, pages: Pages) -> None:
    """Its browsers are the daemon's; another front end can go on at once."""
    with Fleet(place) as fleet:
        front = fleet.front_end()
        async with killed(front) as agent:
            await agent.ok("browser_navigate", url=pages.at("/"))
        assert fleet.daemon.process.poll() is None and fleet.daemon.get("/ready")
        successor = fleet.front_end()
        async with Connector(successor.mcp)("http-modern") as agent:
            assert "Hello" in (await agent.ok("browser_navigate", url=pages.at("/"))).text
        successor.destroy()
        fleet.daemon.stop()


async def test_a_front_end_survives_a_killed_daemon(place: Place, pages: Pages) -> None:
    """It cannot serve, says so in a typed way, and is not ready."""
    with Fleet(place) as fleet:
        front = fleet.front_end()
        async with Connector(front.mcp)("http-modern") as agent:
            await agent.ok("browser_navigate", url=pages.at("/"))
            fleet.daemon.send(signal.SIGKILL)
            assert fleet.daemon.wait() == -signal.SIGKILL
            until(lambda: not processes.reap_orphans(), "no browser is left", within=GONE)
            assert (await agent.call("browser_snapshot")).code in ("browser_gone", "lease_lost")
            agent.session = None
        assert front.get("/health")["status"] == "ok"
        front.send(signal.SIGTERM)
        assert front.wait() == 0, place.read_log()


async def test_a_daemon_whose_browsers_do_not_end_says_so(place: Place, pages: Pages) -> None:
    """It does not wait for ever, its code tells, and even those browsers end with it: the kernel sees to that."""
    # Longer than the daemon waits: a stopped browser takes no notice of anything gentler than the end of this.
    place.environment["BROWSERFLEET_BROWSER__TERM_GRACE"] = "60s"
    with Fleet(place) as fleet:
        front = fleet.front_end()
        async with Connector(front.mcp)("http-modern") as agent:
            await agent.ok("browser_navigate", url=pages.at("/"))
            for browser in fleet.daemon.browsers():
                browser.send(signal.SIGSTOP)
            fleet.daemon.send(signal.SIGTERM)
            assert await anyio.to_thread.run_sync(fleet.daemon.wait, 30) == 1
            assert "browsers could not be ended" in place.read_log()
            until(lambda: not processes.reap_orphans(), "no browser is left", within=GONE)
            agent.session = None

"""Ten agents that never rest, and what becomes of their calls: the load is made on this machine and bounded by the test's time."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import anyio
from mcp import MCPError

from clients import Agent
from composed import PAGE, Composed
from waiting import eventually

#: Sessions at a time. Both eras of the protocol.
SESSIONS = 10
KINDS = ("http-modern", "http-legacy")
#: Between two calls of an agent, in seconds: agents think. Without it nothing but the machine's processors would be measured.
PAUSE = 0.1
#: Each counts in the page's storage, so that what was answered and is not there afterwards was lost.
COUNT = "() => localStorage.count = Number(localStorage.count || 0) + 1"


@dataclass
class Worker:
    """An agent, and what it has seen."""

    agent: Agent
    #: The number its page has answered last, and how many calls were answered.
    count: int = 0
    calls: int = 0
    moves: int = 0
    #: Codes of calls that failed.
    failed: Counter[str] = field(default_factory=Counter)
    #: What no call may do: break off, or answer nonsense.
    broken: list[str] = field(default_factory=list)

    async def work(self, stop: anyio.Event) -> None:
        """Counts until told to stop."""
        while not stop.is_set():
            try:
                with anyio.fail_after(60):
                    await self._count()
            except MCPError as error:
                # Clients of `initialize` get HTTP's 503 where a front end cannot look their connection up.
                self.failed[str(error)] += 1
            except (Exception, ExceptionGroup) as error:
                self.broken.append(repr(error))
            await anyio.sleep(PAUSE)

    async def _count(self) -> None:
        reply = await self.agent.call("browser_evaluate", function=COUNT)
        if reply.is_error:
            self.failed[reply.code] += 1
            return
        self.moves += "restored" in reply.structured
        self.count = reply.result
        self.calls += 1


@asynccontextmanager
async def at_work(fleet: Composed) -> AsyncIterator[list[Worker]]:
    """Workers, each in a session of its own."""
    stop = anyio.Event()
    async with AsyncExitStack() as stack:
        workers = []
        for number in range(SESSIONS):
            agent = await stack.enter_async_context(fleet.connect()(KINDS[number % len(KINDS)]))
            await agent.ok("browser_navigate", url=PAGE)
            workers.append(Worker(agent))
        async with anyio.create_task_group() as tasks:
            for worker in workers:
                tasks.start_soon(worker.work, stop)
            try:
                await go_on(workers)
                yield workers
            finally:
                stop.set()
        # Whoever was told of a failure last finds the session well before it ends.
        for worker in workers:
            await eventually_ok(worker.agent)


async def go_on(workers: list[Worker], more: int = 3) -> None:
    """Every worker has made some more calls that succeeded."""
    before = [worker.calls for worker in workers]

    def all_have() -> bool:
        return all(worker.calls >= calls + more for worker, calls in zip(workers, before, strict=True))

    await eventually(all_have, f"everybody goes on: {workers}", 90)


async def eventually_ok(agent: Agent) -> None:
    """The session works, at once or after it was told what it has lost."""
    for _ in range(3):
        reply = await agent.call("browser_snapshot")
        if not reply.is_error:
            return
    raise AssertionError(reply.text)


def failures(workers: list[Worker]) -> tuple[Counter[str], list[str]]:
    """Codes of failed calls, and calls that broke off."""
    failed = sum((worker.failed for worker in workers), Counter[str]())
    return failed, [broken for worker in workers for broken in worker.broken]

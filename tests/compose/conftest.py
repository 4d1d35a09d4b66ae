"""One fleet for all tests of this directory: each finds it well, and without sessions."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest

import composed
from collector import Collector, collecting
from composed import Composed


@pytest.fixture
def anyio_backend() -> str:
    """The clients' own."""
    return "asyncio"


@pytest.fixture(scope="session")
def whole_fleet() -> Iterator[Composed]:
    """The fleet."""
    with composed.running() as fleet:
        yield fleet


@pytest.fixture
def collector(whole_fleet: Composed) -> Iterator[Collector]:
    """Gets the traces of the test. Programs go on trying while there is none."""
    with collecting(composed.COLLECTOR) as collector:
        yield collector


@pytest.fixture
def fleet(whole_fleet: Composed) -> Composed:
    """The fleet, well; what a failed test has left is gone."""
    whole_fleet.await_well()
    anyio.run(_end_sessions, whole_fleet)
    return whole_fleet


async def _end_sessions(fleet: Composed) -> None:
    async with fleet.connect()("http-modern") as agent:
        for session in (await agent.ok("session_list")).structured["sessions"]:
            await agent.ok("session_close", session_id=session["session_id"])

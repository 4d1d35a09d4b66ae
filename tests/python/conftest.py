"""What every test can ask for."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

import processes
from clients import Connector
from fleet import Fleet
from pages import Pages
from programs import Launcher, Place, Program, serve


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure shows what the programs of the test said."""
    report = yield
    if report.failed:
        for place in (place for value in item.funcargs.values() for place in _places(value)):
            report.sections.append(("log of a program", place.read_log()))
    return report


@pytest.fixture
def anyio_backend() -> str:
    """The event loop of people who use these clients."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def nothing_left() -> Iterator[None]:
    """Whatever happens in the tests, no process outlives them."""
    processes.become_subreaper()
    yield
    processes.end_orphans()


@pytest.fixture(scope="session")
def pages() -> Iterator[Pages]:
    """The page server."""
    pages = Pages()
    yield pages
    pages.close()


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[Program]:
    """`browserfleet serve` with the `SETTINGS` of a file, shared by its tests. After them it must end as it should."""
    place = Place(getattr(request.module, "SETTINGS", {}))
    program = None
    try:
        program = serve(place)
        yield program
        program.stop()
    finally:
        if program:
            program.destroy()
        place.remove()


@pytest.fixture
def connect(request: pytest.FixtureRequest, server: Program) -> Connector:
    """Connects agents to the file's server, or over stdio to a process with the same settings."""
    return Connector(server.mcp, getattr(request.module, "SETTINGS", {}))


@pytest.fixture
def launch() -> Iterator[Launcher]:
    """Starts programs for this test alone."""
    launcher = Launcher()
    try:
        yield launcher
        launcher.stop()
    finally:
        launcher.destroy()


@pytest.fixture
def place() -> Iterator[Place]:
    """A state directory for programs that a test starts itself."""
    place = Place()
    yield place
    place.remove()


def _places(value: object) -> list[Place]:
    """Where the programs write that a fixture's value stands for."""
    if isinstance(value, Place):
        return [value]
    if isinstance(value, Program):
        return [value.place]
    return value.places if isinstance(value, Launcher | Fleet) else []

"""What is kept of sessions, counted where it is kept: in a program's memory, in its directory, in a fleet's Redis."""

from __future__ import annotations

import re
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import fleet as fleets
from clients import Connector
from fleet import Fleet
from processes import Process
from programs import Place, Program, free_address
from redis_server import Redis


#: Bytes of a checkpoint that has what tests put into pages: one that was kept before that has less.
WHOLE = 40_000

#: Most tries to copy a database that is written to.
COPIES = 10


class Kept(NamedTuple):
    """How much there is, of everybody together."""

    artifacts: int
    checkpoints: int


class Home(Protocol):
    """Programs that serve sessions, and the place where they keep what is of them."""

    def connect(self) -> Connector:
        """Connects agents."""

    def browsers(self) -> list[Process]:
        """Every browser."""

    def kept(self) -> Kept:
        """What there is."""

    def names(self) -> set[str]:
        """Of which sessions there is anything at all."""

    def drain(self) -> None:
        """Ends whoever holds browsers, as an operator would, and starts it again."""


class Alone:
    """`browserfleet serve`. It keeps sessions in memory: what there is it counts itself."""

    def __init__(self, place: Place, *flags: str) -> None:
        self.place, self._flags = place, flags
        self._address = free_address()
        self.program = self._start()

    def connect(self) -> Connector:
        return Connector(self.program.mcp)

    def browsers(self) -> list[Process]:
        return self.program.browsers()

    def kept(self) -> Kept:
        return self.told()

    def told(self) -> Kept:
        """As the program counts it."""
        return Kept(*(self.program.metric(f'browserfleet_kept{{what="{what}"}}') for what in Kept._fields))

    def names(self) -> set[str]:
        # A count of its own: one more than the names asked for is seen, whoever it is.
        sessions = self.program.metric('browserfleet_kept{what="sessions"}')
        return {f"{number}" for number in range(sessions)}

    def drain(self) -> None:
        self.program.stop()
        self.program.destroy()
        self.program = self._start()

    def _start(self) -> Program:
        flags = ["serve", "--listen", self._address, *self._flags]
        return Program("browserfleet", flags, self.place, self._address, ready_at=self._address)


class Directory(Alone):
    """`browserfleet serve --state-dir`: the rows are looked at."""

    def __init__(self, place: Place, directory: Path) -> None:
        self.directory = directory
        super().__init__(place, "--state-dir", str(directory))

    def kept(self) -> Kept:
        [counted] = rows(self.directory, f"SELECT (SELECT count(*) FROM artifacts), count(*) FILTER (WHERE length(checkpoint) > {WHOLE}) FROM sessions")
        return Kept(*counted)

    def names(self) -> set[str]:
        return {name for (name,) in rows(self.directory, "SELECT name FROM sessions UNION SELECT name FROM artifacts")}


class Fleets:
    """Two daemons, two front ends: the keys are looked at."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet

    def connect(self) -> Connector:
        return self.fleet.connect()

    def browsers(self) -> list[Process]:
        return [browser for member in self.fleet.daemons for browser in member.program.browsers()]

    def kept(self) -> Kept:
        return kept_in(self.fleet.redis, WHOLE)

    def names(self) -> set[str]:
        # An index is looked through when sessions are counted; until then it names some that have lapsed.
        for member in self.fleet.front_ends:
            member.program.get("/health")
        return names_in(self.fleet.redis)

    def drain(self) -> None:
        for member in self.fleet.daemons:
            member.terminate()
            member.start_again()


def kept_in(redis: Redis, least: int = 0) -> Kept:
    """The artifacts in a Redis, and the checkpoints of so many bytes at least."""
    keys = redis.keys()
    artifacts = (redis.ask("HKEYS", key) for key in keys if key.endswith(":kept"))
    contents = [field for fields in artifacts for field in fields if field.startswith("b:")]
    sizes = [int(redis.ask("HSTRLEN", key, "sealed")[0]) for key in keys if key.endswith(":check")]
    return Kept(len(contents), sum(size >= least for size in sizes))


def names_in(redis: Redis) -> set[str]:
    """The sessions that any key, or any index, of a Redis names. That one was ended is remembered for a minute."""
    keys = redis.keys()
    found = (re.fullmatch(r"bf:\{\w+:([^:}]+)\}:\w+", key) for key in keys)
    named = {match[1] for match in found if match}
    indexes = [key for key in keys if key.endswith(":sessions")]
    listed = (redis.ask("ZRANGE", index, "0", "-1") for index in indexes)
    return named | {member.rpartition(":")[2] for members in listed for member in members if member}


def rows(directory: Path, query: str) -> list[tuple[Any, ...]]:
    """What a program has in its directory. It lets nobody else in, so a copy is asked; one that was made while it wrote may be
    none."""
    for _ in range(COPIES):
        with suppress(sqlite3.DatabaseError):
            return _rows_of_copy(directory, query)
    raise AssertionError(f"{COPIES} copies of {directory} could not be read")


def _rows_of_copy(directory: Path, query: str) -> list[tuple[Any, ...]]:
    with tempfile.TemporaryDirectory(prefix="bfcopy") as copy:
        for file in directory.glob("state.sqlite3*"):
            shutil.copy(file, copy)
        database = Path(copy, "state.sqlite3")
        with closing(sqlite3.connect(database)) as connection:
            return connection.execute(query).fetchall()


@contextmanager
def home(kind: str, directory: Path, **settings: str) -> Iterator[Home]:
    """Programs over a store of a kind: `memory`, `sqlite` or `redis`. They must end as they should."""
    if kind == "redis":
        with fleets.running(**settings) as fleet:
            yield Fleets(fleet)
            fleet.assert_as_before()
        return
    place = Place(settings)
    alone: Alone | None = None
    try:
        alone = Alone(place) if kind == "memory" else Directory(place, directory)
        yield alone
        alone.program.stop(signal.SIGTERM)
    finally:
        if alone:
            alone.program.destroy()
        place.remove()

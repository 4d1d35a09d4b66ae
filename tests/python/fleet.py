"""A whole fleet of real programs: Redis, pool daemons, front ends, and a proxy without affinity before them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import processes
from clients import Connector
from programs import Place, Program, free_address, get_json
from proxy import Proxy
from redis_server import Redis
from waiting import BOUND, until

#: What stays in Redis whatever happens: its name for itself, the secret it keeps for the fleet, and the daemons' directory.
LASTING = {"bf:epoch", "bf:key", "bf:pools"}

#: Browsers each daemon keeps ready, so that what is left when nobody uses one can be counted.
WARM = 1

#: For daemons: browsers reach the tests' pages on loopback.
DAEMON_SETTINGS = {
    "EGRESS__NETWORK": "local",
    "POOL__MIN_WARM": str(WARM),
    "POOL__MAX_BROWSERS": "4",
    "DAEMON__DRAIN_GRACE": "1s",
}


@dataclass(frozen=True)
class Left:
    """What there is when nobody uses anything, or should be."""

    browsers: list[int]
    profiles: list[int]
    sessions: int
    keys: frozenset[str]


class Member:
    """A program of the fleet with a fixed address, which can be started again after it has ended, however it ended."""

    def __init__(self, name: str, arguments: list[str], place: Place, address: str) -> None:
        """`address` is where it serves HTTP."""
        self._name, self._arguments, self.place, self.address = name, arguments, place, address
        self.program = self._start()

    @property
    def url(self) -> str:
        """Where it serves its clients: MCP, or gRPC."""
        return f"http://{self._arguments[self._arguments.index('--listen') + 1]}"

    def is_ready(self) -> bool:
        """Whether it wants new work."""
        return self.program.is_ready()

    def kill(self) -> None:
        """SIGKILL: it has no last word."""
        self.program.process.kill()
        self.program.wait()

    def terminate(self) -> None:
        """Ends it as an operator would."""
        self.program.send(signal.SIGTERM)
        assert self.program.wait(2 * BOUND) == 0, self.place.read_log()

    def start_again(self) -> None:
        """Another process, where the last one was."""
        self.program.destroy()
        self.program = self._start()

    def _start(self) -> Program:
        return Program(self._name, self._arguments, self.place, self.address, ready_at=self.address)


class Fleet:
    """`Fleet(daemons=2, front_ends=2, SESSION__IDLE_TTL="1m")`, with settings as in the documentation."""

    def __init__(self, daemons: int = 2, front_ends: int = 2, **settings: str) -> None:
        self.places: list[Place] = []
        self.daemons: list[Member] = []
        self.front_ends: list[Member] = []
        self.proxy: Proxy | None = None
        self.redis = Redis()
        self._settings = {**settings, "STORE__URL": self.redis.url}
        try:
            for number in range(daemons):
                self.daemons.append(self._daemon(number))
            for _ in range(front_ends):
                self.front_ends.append(self._front_end())
            self.proxy = Proxy([member.address for member in self.front_ends])
            self.assert_as_before()
        except BaseException:
            self.destroy()
            raise

    @property
    def mcp(self) -> str:
        """The URL for MCP clients, behind the proxy."""
        assert self.proxy
        return self.proxy.mcp

    def connect(self, front_end: Member | None = None) -> Connector:
        """Connects agents: through the proxy, or to one front end alone."""
        return Connector(front_end.program.mcp if front_end else self.mcp)

    def serving(self) -> list[Member]:
        """The front ends on which calls run now."""
        return [member for member in self.front_ends if member.program.get("/health")["active_calls"]]

    def holding(self) -> list[Member]:
        """The daemons whose browsers are leased now."""
        return [member for member in self.daemons if member.program.get("/health")["leases"]]

    def restorable(self) -> bool:
        """Whether every session can be restored."""
        sessions = get_json(f"http://{self.front_ends[0].address}/sessions")["sessions"]
        return bool(sessions) and all(session["restorable"] for session in sessions)

    def leases(self) -> int:
        """How many browsers are leased now."""
        return sum(member.program.get("/health")["leases"] for member in self.daemons)

    def left(self) -> Left:
        """What there is now."""
        # Whoever counts the sessions looks which of them are over.
        sessions = get_json(f"http://{self.front_ends[0].address}/health")["sessions"]
        return Left(
            browsers=[len(member.program.browsers()) for member in self.daemons],
            profiles=[len(member.place.profiles()) for member in self.daemons],
            sessions=sessions,
            keys=frozenset(self.redis.keys() - LASTING),
        )

    def nothing_left(self) -> Left:
        """What there is when nobody uses anything."""
        warm = [WARM for _ in self.daemons]
        return Left(browsers=warm, profiles=warm, sessions=0, keys=frozenset())

    def assert_as_before(self, within: float = 2 * BOUND) -> None:
        """Processes, profiles and keys are back to what they were before anybody came."""
        try:
            until(lambda: self.left() == self.nothing_left(), "nothing is left", within)
        except AssertionError:
            left = self.left()
            assert left == self.nothing_left(), f"something is left: {left}, and not {self.nothing_left()}"
        assert processes.reap_orphans() == [], "processes without a parent are left"

    def stop(self) -> None:
        """Ends everything that runs, as it should end, and looks at what it leaves: nothing."""
        for member in self.front_ends + self.daemons:
            if member.program.process.poll() is None:
                member.terminate()
        for member in self.daemons:
            member.place.assert_as_before()
        assert self.redis.keys() <= LASTING - {"bf:pools"}, self.redis.keys()

    def destroy(self) -> None:
        """Leaves nothing, also after a failed test."""
        if self.proxy:
            self.proxy.close()
        for member in self.front_ends + self.daemons:
            member.program.destroy()
        for place in self.places:
            place.remove()
        self.redis.close()

    def _daemon(self, number: int) -> Member:
        settings = {**DAEMON_SETTINGS, **self._settings, "DAEMON__POOL_ID": f"pool-{number}"}
        admin = free_address()
        arguments = ["--listen", free_address(), "--admin-listen", admin]
        return Member("pool-daemon", arguments, self._place(settings), admin)

    def _front_end(self) -> Member:
        address = free_address()
        return Member("mcp-frontend", ["--listen", address], self._place(self._settings), address)

    def _place(self, settings: dict[str, str]) -> Place:
        place = Place(settings)
        self.places.append(place)
        return place


@contextmanager
def running(**settings: str) -> Iterator[Fleet]:
    """A fleet for as long as somebody wants it. It must end as it should."""
    fleet = Fleet(**settings)
    try:
        yield fleet
        fleet.stop()
    finally:
        fleet.destroy()

"""Several front ends over one Redis, as programs: one that dies, and a Redis that does."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Self

import pytest

import processes
from clients import Connector
from pages import Pages
from programs import Place, Program, free_address
from waiting import until


class Redis:
    """A server that keeps what it was told, also over a death."""

    def __init__(self, place: Place) -> None:
        self.address = free_address()
        self._directory, self._process = place.directory.with_suffix(".redis"), None
        self._directory.mkdir()
        self.start()

    def start(self) -> None:
        """Starts it, again perhaps."""
        host, port = self.address.split(":")
        keeps = ["--save", "", "--appendonly", "yes", "--appendfsync", "always", "--dir", str(self._directory)]
        command = ["redis-server", "--bind", host, "--port", port, *keeps]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._is_there, "redis-server answers")

    def kill(self) -> None:
        """Kills it without a warning."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def remove(self) -> None:
        """Leaves nothing."""
        self.kill()
        subprocess.run(["rm", "-rf", str(self._directory)], check=True)

    def _is_there(self) -> bool:
        host, port = self.address.split(":")
        try:
            with socket.create_connection((host, int(port)), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


class Replicas:
    """A Redis, a daemon and two front ends. Whatever happens they end with the block."""

    def __init__(self, place: Place) -> None:
        self._place, self._ends = place, ExitStack()
        self.redis = Redis(place)
        self._ends.callback(self.redis.remove)
        grpc, admin = free_address(), free_address()
        place.environment["BROWSERFLEET_STORE__URL"] = f"redis://{self.redis.address}"
        # The tests' pages are on this machine, which a daemon by itself keeps out of reach.
        place.environment["BROWSERFLEET_EGRESS__NETWORK"] = "local"
        self._start("pool-daemon", ["--listen", grpc, "--admin-listen", admin], admin)
        self.one, self.other = (self._front_end(grpc) for _ in range(2))

    def _front_end(self, grpc: str) -> Program:
        address = free_address()
        return self._start("mcp-frontend", ["--listen", address, "--pool", f"http://{grpc}"], address)

    def _start(self, name: str, arguments: list[str], address: str) -> Program:
        program = Program(name, arguments, self._place, address, ready_at=address)
        self._ends.callback(program.destroy)
        return program

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()
        until(lambda: not processes.reap_orphans(), "no browser is left")


@pytest.fixture
def replicas(place: Place) -> Iterator[Replicas]:
    """Two front ends for this test alone."""
    with Replicas(place) as replicas:
        yield replicas


async def test_a_front_end_that_is_killed_loses_no_session(replicas: Replicas, pages: Pages) -> None:
    """Whoever was connected to it goes on with the other one, in the same page."""
    async with Connector(replicas.other.mcp)("http-modern") as there:
        async with Connector(replicas.one.mcp)("http-modern") as here:
            await here.ok("browser_navigate", url=pages.at("/"))
            await here.ok("browser_evaluate", function="() => { document.title = 'as it was left'; }")
            there.session, here.session = here.session, None
            replicas.one.send(signal.SIGKILL)
            assert replicas.one.wait() == -signal.SIGKILL
        after = await there.ok("browser_evaluate", function="() => document.title")
        assert after.result == "as it was left"
        assert replicas.other.get("/sessions")["with_browser"] == 1


async def test_a_redis_that_dies_ends_no_session(replicas: Replicas, pages: Pages) -> None:
    """While it is away calls say so; afterwards everything is as it was left."""
    async with Connector(replicas.one.mcp)("http-modern") as agent:
        await agent.ok("browser_navigate", url=pages.at("/"))
        await agent.ok("browser_evaluate", function="() => { document.title = 'as it was left'; }")
        replicas.redis.kill()
        assert (await agent.call("browser_snapshot")).code == "store_unavailable"
        replicas.redis.start()
        until(replicas.one.is_ready, "the front end has found it again")
        until(replicas.other.is_ready, "so has the other one")
        after = await agent.ok("browser_evaluate", function="() => document.title")
        assert after.result == "as it was left"

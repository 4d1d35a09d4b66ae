"""A daemon that is stopped, as by a debugger, a snapshot of its machine or one that swaps, and goes on: leases went on ending meanwhile."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.unknown_fields import UnknownFieldSet

from programs import Daemon, Place, running_daemon
from waiting import BOUND, until

POOL, BROWSER = "/browserfleet.v1.PoolService/", "/browserfleet.v1.BrowserService/"


@pytest.fixture
def daemon(place: Place) -> Iterator[Daemon]:
    """One that has no browser unless somebody gets one."""
    place.environment["BROWSERFLEET_POOL__MIN_WARM"] = "0"
    with running_daemon(place) as daemon:
        yield daemon


@pytest.fixture
def channel(daemon: Daemon) -> Iterator[grpc.Channel]:
    """A way to it."""
    with grpc.insecure_channel(daemon.grpc) as channel:
        yield channel


def words(*values: str) -> bytes:
    """A message whose first fields are these, each shorter than 128 bytes."""
    fields = (bytes([number << 3 | 2, len(value)]) + value.encode() for number, value in enumerate(values, 1))
    return b"".join(fields)


def parts(message: bytes) -> dict[int, Any]:
    """The fields of a message."""
    return {field.field_number: field.data for field in UnknownFieldSet(Empty.FromString(message))}


class Lease:
    """One that a session has, for so many seconds without a call."""

    def __init__(self, channel: grpc.Channel, session: str, seconds: int) -> None:
        self._channel = channel
        ttl = bytes([4 << 3 | 2, 2, 1 << 3, seconds])
        *_queued, last = channel.unary_stream(f"{POOL}Acquire")(words("somebody", session, "birth") + ttl, timeout=BOUND)
        granted = parts(parts(last)[2])
        self.id, self.token = parts(granted[1])[1].decode(), granted[2].decode()
        channel.unary_unary(f"{POOL}Renew")(words(self.id, self.token), timeout=BOUND)

    def call(self) -> Iterator[bytes]:
        """Sends a call, whose answer is to be waited for."""
        request = words(self.id, self.token, "browser_evaluate", '{"function": "() => 6 * 7"}')
        return self._channel.unary_stream(f"{BROWSER}CallTool")(request, timeout=BOUND)

    def release(self) -> None:
        """Ends it."""
        self._channel.unary_unary(f"{POOL}Release")(words(self.id, self.token), timeout=BOUND)


def answer(call: Iterator[bytes]) -> str:
    """What a call came to: its end, or the status it was refused with."""
    try:
        *_, end = call
    except grpc.RpcError as refused:
        return refused.code().name
    return "done" if parts(end) == {5: b""} else f"failed: {end!r}"


def test_leases_end_while_their_daemon_is_stopped(daemon: Daemon, channel: grpc.Channel) -> None:
    """A call that was sent meanwhile finds its lease over, whatever the daemon does first, or goes on as if nothing had been."""
    short, long = Lease(channel, "short", 2), Lease(channel, "long", 60)
    assert [answer(lease.call()) for lease in (short, long)] == ["done", "done"]
    daemon.send(signal.SIGSTOP)
    # What is to pass is time: the term of one of the two.
    time.sleep(3)
    calls = [short.call(), long.call()]
    # Nothing tells that they are on their way; were they not yet, they would be refused and served all the same.
    time.sleep(0.5)
    daemon.send(signal.SIGCONT)
    assert [answer(call) for call in calls] == ["FAILED_PRECONDITION", "done"]
    until(lambda: len(daemon.browsers()) == 1, "the browser of the lease that is over is gone")
    # Its slot is somebody else's now.
    following = Lease(channel, "following", 60)
    assert [answer(lease.call()) for lease in (following, short, long)] == ["done", "FAILED_PRECONDITION", "done"]
    for lease in (following, long):
        lease.release()

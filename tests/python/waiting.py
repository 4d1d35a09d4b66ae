"""Waiting for a state: no fixed sleeps, and no wait without a bound."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import anyio

T = TypeVar("T")

#: Generous, because the machine may be compiling: it bounds a failure, it does not measure.
BOUND = 15.0
PAUSE = 0.02


def until(probe: Callable[[], T], what: str, within: float = BOUND) -> T:
    """Asks again until the answer is truthy. For code outside the event loop."""
    deadline = time.monotonic() + within
    while not (answer := probe()):
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(PAUSE)
    return answer


async def eventually(probe: Callable[[], T], what: str, within: float = BOUND) -> T:
    """Like `until`, and the clients in this event loop go on meanwhile."""
    deadline = time.monotonic() + within
    while not (answer := probe()):
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        await anyio.sleep(PAUSE)
    return answer

"""MCP's own conformance suites. What they want of a server, a server of fixtures has; what carries it is the product's protocol
layer: both eras, connections and messages in Redis, two front ends behind a proxy that sends each request to the next one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

import conformance
from programs import Place, Program, free_address
from proxy import Proxy
from redis_server import Redis

#: Scenarios of the released suite: all there are.
RELEASED = 32

#: Scenarios that are run, do not count, and fail: those of the tasks extension, which we do not offer.
TASKS = {
    "tasks-capability-negotiation",
    "tasks-dispatch-and-envelope",
    "tasks-lifecycle",
    "tasks-mrtr-composition",
    "tasks-mrtr-input",
    "tasks-request-headers",
    "tasks-request-state-removal",
    "tasks-required-task-error",
    "tasks-wire-fields",
}

@pytest.fixture(scope="module")
def fixtures() -> Iterator[Proxy]:
    """The proxy before two servers of fixtures over one Redis."""
    with ExitStack() as ends:
        redis = Redis()
        ends.callback(redis.close)
        addresses = []
        for _ in range(2):
            place = Place()
            ends.callback(place.remove)
            addresses.append(free_address())
            arguments = ["--listen", addresses[-1], "--store", redis.url]
            program = Program("mcp-conformance", arguments, place, addresses[-1], ready_at=addresses[-1])
            ends.callback(program.destroy)
        proxy = Proxy(addresses)
        ends.callback(proxy.close)
        yield proxy


def assert_served_by_both(proxy: Proxy) -> None:
    """Neither front end has done it alone."""
    served = [proxy.served[upstream] for upstream in proxy.upstreams]
    assert min(served) * 3 > max(served) > 0 and proxy.broken == [], (served, proxy.broken)


def test_the_released_suite_finds_nothing(fixtures: Proxy) -> None:
    """Every scenario of 0.1.16 counts."""
    found = conformance.released(fixtures.mcp)
    assert found.wrong() == {} and found.accepted, found.summary
    assert len(found.scenarios) == RELEASED
    assert_served_by_both(fixtures)


@pytest.mark.parametrize(("revision", "fails"), [("2025-11-25", set()), ("2026-07-28", TASKS)])
def test_what_a_revision_requires_is_there(revision: str, fails: set[str], fixtures: Proxy) -> None:
    """What is scored passes; of what is not scored, only what we do not offer fails."""
    found = conformance.required(revision, fixtures.mcp)
    scored = conformance.scored(revision)
    assert scored <= found.scenarios.keys()
    assert found.wrong().keys() == fails and not scored & fails, found.summary
    assert found.accepted, found.summary
    assert_served_by_both(fixtures)

"""MCP's own conformance suites. What they want of a server, a server of fixtures has; what carries it is the product's protocol
layer: both eras, connections and messages in Redis, two front ends behind a proxy that sends each request to the next one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from mcp import Client
from mcp.types import CreateMessageRequestParams, CreateMessageResult, ElicitRequestParams, ElicitResult, TextContent

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


async def test_what_a_client_answers_reaches_who_asked(fixtures: Proxy) -> None:
    """The suites are content when a client has been asked; here its answer comes back, by whichever front end it goes."""

    async def say(_context: Any, request: CreateMessageRequestParams) -> CreateMessageResult:
        said = TextContent(type="text", text=f"as to {request.messages[0].content.text}")
        return CreateMessageResult(role="assistant", content=said, model="none")

    async def fill_in(_context: Any, _request: ElicitRequestParams) -> ElicitResult:
        return ElicitResult(action="accept", content={"username": "ada"})

    async with Client(fixtures.mcp, mode="legacy", sampling_callback=say, elicitation_callback=fill_in) as client:
        for turn in range(4):
            answer = await client.call_tool("test_sampling", {"prompt": f"turn {turn}"})
            assert [block.text for block in answer.content] == [f"LLM response: as to turn {turn}"]
            answer = await client.call_tool("test_elicitation", {"message": "Who?"})
            assert answer.content[0].text == 'Elicitation completed: action=accept, content={"username":"ada"}'
            # One request more, so that call and answer change places.
            await client.list_tools()
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

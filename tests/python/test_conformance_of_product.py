"""What MCP's conformance suites say of the product itself: they want tools, resources and prompts that it does not have, and much
that every server has."""

from __future__ import annotations

import pytest

import conformance
from programs import Program

#: Scenarios that need no fixture: what they test, the product has.
GENERAL = {
    "2025-11-25": {
        "dns-rebinding-protection",
        "ping",
        "server-initialize",
        "server-session-lifecycle",
        "server-sse-multiple-streams",
        "tools-list",
    },
    "2026-07-28": {"dns-rebinding-protection", "http-header-validation", "server-sse-multiple-streams", "tools-list"},
}


@pytest.mark.parametrize("revision", GENERAL)
def test_the_product_itself_passes_what_needs_no_fixture(revision: str, server: Program) -> None:
    """The suite asks it for much that a server of browsers does not have; the rest is right."""
    found = conformance.required(revision, server.mcp)
    assert GENERAL[revision] <= found.scenarios.keys()
    assert not GENERAL[revision] & found.wrong().keys(), found.summary

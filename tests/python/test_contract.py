"""Structured results against the schemas that the list of tools promises: every tool that has one, in real calls."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import jsonschema
import pytest

from clients import HTTP, Agent, Connector
from pages import Pages
from programs import Program

#: What any reply may say besides: of its session, and of what had no room in it.
ALWAYS = {"session_id", "next_cursor", "total_bytes", "omitted"}

#: Schemas require nothing and allow everything, so what is promised has to come at least once. But for these: who has no key and no
#: connection is told how many sessions there are, whoever has one which they are.
EITHER = {("session_list", "count"), ("session_list", "sessions")}

#: A request that fails, a warning, and something in each storage.
PREPARE = """async () => { await fetch('http://127.0.0.1:9/').catch(() => 0); console.warn('careful');
  document.cookie = 'a=1'; localStorage.b = '2'; sessionStorage.c = '3'; return 0 }"""


class Contract:
    """What the tools promise, and what has come of it."""

    def __init__(self, agent: Agent, schemas: dict[str, dict[str, Any]]) -> None:
        self._agent, self._schemas = agent, schemas
        self._seen: defaultdict[str, set[str]] = defaultdict(set)

    async def kept(self, tool: str, **arguments: object) -> dict[str, Any]:
        """Calls a tool; its structured result is valid, and has no member that nobody is told of."""
        result = (await self._agent.ok(tool, **arguments)).structured
        schema = self._schemas[tool]
        jsonschema.validate(result, schema)
        assert set(result) <= set(schema["properties"]) | ALWAYS, f"{tool}: {sorted(result)}"
        self._seen[tool] |= set(result)
        return result

    def missing(self) -> set[tuple[str, str]]:
        """Members that were promised and never came."""
        promised = {(tool, name) for tool, schema in self._schemas.items() for name in schema["properties"]}
        return promised - {(tool, name) for tool, names in self._seen.items() for name in names}


@pytest.mark.parametrize("kind", HTTP)
async def test_what_tools_promise_programs_they_keep(kind: str, server: Program, pages: Pages) -> None:
    """Nothing is promised that never comes, and nothing comes that is not promised."""
    async with Connector(f"{server.mcp}?caps=all")(kind) as agent:
        contract = Contract(agent, await agent.output_schemas())
        await contract.kept("browser_open")
        await agent.ok("browser_navigate", url=pages.at("/"))
        await _of_a_page(contract, pages)
        await _of_many_calls(contract, pages)
        await _of_recordings(contract, agent, pages)
        for tool in ("session_list", "session_stats", "browser_get_config"):
            await contract.kept(tool)
        assert contract.missing() <= EITHER


async def _of_a_page(contract: Contract, pages: Pages) -> None:
    await contract.kept("browser_evaluate", function=PREPARE)
    await contract.kept("browser_find", text="name")
    await contract.kept("browser_read")
    await contract.kept("browser_extract", schema={"title": "h1"})
    await contract.kept("browser_tabs", action="list")
    await contract.kept("browser_console_messages")
    requests = (await contract.kept("browser_network_requests", static=True))["requests"]
    failed = next(request["index"] for request in requests if "error" in request)
    for arguments in ({"index": 1}, {"index": 1, "part": "response-body"}, {"index": failed}):
        await contract.kept("browser_network_request", **arguments)
    for tool, arguments in [
        ("browser_cookie_list", {}),
        ("browser_cookie_get", {"name": "a"}),
        ("browser_localstorage_list", {}),
        ("browser_localstorage_get", {"key": "b"}),
        ("browser_localstorage_get", {"key": "none"}),
        ("browser_sessionstorage_list", {}),
        ("browser_sessionstorage_get", {"key": "c"}),
        ("browser_storage_state", {}),
        ("browser_route_list", {}),
        ("browser_generate_locator", {"target": "h1"}),
        ("browser_verify_element_visible", {"role": "heading", "accessibleName": "Hello"}),
        ("browser_verify_text_visible", {"text": "Hello"}),
        ("browser_verify_list_visible", {"element": "the form", "target": "form", "items": ["Name"]}),
        ("browser_verify_value", {"type": "textbox", "element": "the name", "target": "input", "value": ""}),
        ("browser_emulate", {"locale": "de-AT"}),
        ("browser_har_export", {"bodies": True}),
    ]:
        await contract.kept(tool, **arguments)


async def _of_many_calls(contract: Contract, pages: Pages) -> None:
    steps = [{"tool": "browser_navigate", "arguments": {"url": pages.at("/")}}, {"tool": "browser_find", "arguments": {"text": "Go"}}]
    broken = {"tool": "browser_click", "arguments": {"target": "#nothing"}}
    await contract.kept("browser_batch", steps=steps)
    await contract.kept("session_run_tasks", tasks=[{"name": "works", "steps": steps}])
    many = [{"tool": "browser_hover", "arguments": {"target": "h1"}}, broken, *steps]
    partly = await contract.kept("browser_batch", steps=many, on_error="continue")
    assert [step["status"] for step in partly["steps"]] == ["ok", "failed", "ok", "ok"]
    long = await contract.kept("browser_evaluate", function="() => 'word '.repeat(2000)", max_bytes=1024)
    page = await contract.kept("browser_read_cursor", cursor=long["next_cursor"], max_bytes=1024)
    while page["next_cursor"]:
        page = await contract.kept("browser_read_cursor", cursor=page["next_cursor"])


async def _of_recordings(contract: Contract, agent: Agent, pages: Pages) -> None:
    for what in ("recording", "tracing", "video"):
        await agent.ok(f"browser_start_{what}")
    await agent.ok("browser_navigate", url=pages.at("/login"))
    for what in ("recording", "tracing", "video"):
        await contract.kept(f"browser_stop_{what}")

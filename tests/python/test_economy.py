"""How much replies and lists say, as clients read them: modes, budgets, sizes, structured results, the slim profile."""

from __future__ import annotations

import json

import pytest

from clients import HTTP, Connector
from pages import Pages
from programs import Launcher, Program


@pytest.mark.parametrize("kind", HTTP)
async def test_structured_results_are_as_the_list_of_tools_promises(kind: str, server: Program, pages: Pages) -> None:
    """The client checks each against its schema."""
    async with Connector(f"{server.mcp}?caps=all")(kind) as agent:
        await agent.ok("browser_navigate", url=pages.at("/"))
        evaluated = await agent.ok("browser_evaluate", function="() => ({ a: [1, 'x'] })")
        assert evaluated.structured["result"] == {"a": [1, "x"]}
        assert pages.at("/").startswith(evaluated.structured["origin"])
        nothing = await agent.ok("browser_evaluate", function="() => undefined")
        assert "result" not in nothing.structured
        tabs = (await agent.ok("browser_tabs", action="list")).structured["tabs"]
        assert [(tab["index"], tab["current"]) for tab in tabs] == [(0, True)]
        requests = (await agent.ok("browser_network_requests", static=True)).structured["requests"]
        assert requests[0]["url"] == pages.at("/") and requests[0]["status"] == 200
        request = (await agent.ok("browser_network_request", index=1)).structured
        assert request["method"] == "GET" and "content-type" in request["response_headers"]
        await agent.ok("browser_evaluate", function="() => console.warn('careful')")
        console = (await agent.ok("browser_console_messages")).structured
        assert console["warnings"] == 1 and "careful" in console["messages"][-1]["text"]
        for tool, arguments in [
            ("browser_find", {"text": "zzz"}),
            ("browser_cookie_list", {}),
            ("browser_localstorage_list", {}),
            ("browser_localstorage_get", {"key": "none"}),
            ("browser_storage_state", {}),
            ("browser_route_list", {}),
            ("browser_generate_locator", {"target": "body"}),
            ("session_list", {}),
            ("session_stats", {}),
            ("browser_get_config", {}),
        ]:
            reply = await agent.ok(tool, **arguments)
            assert set(reply.structured) - {"session_id"}, tool


async def test_a_dialog_in_between_keeps_the_promise(server: Program, pages: Pages) -> None:
    """There is no result then, but an object."""
    async with Connector(server.mcp)("http-modern") as agent:
        await agent.ok("browser_navigate", url=pages.at("/"))
        asked = await agent.ok("browser_evaluate", function="() => alert('well?')")
        assert "### Modal state" in asked.text and "result" not in asked.structured
        await agent.ok("browser_handle_dialog", accept=True)


async def test_a_reply_says_how_large_it_is(server: Program, pages: Pages) -> None:
    """Beside the content, where models do not read it."""
    async with Connector(server.mcp)("http-modern") as agent:
        page = await agent.ok("browser_navigate", url=pages.at("/"))
        size = page.meta["browserfleet/size"]
        assert size["text_bytes"] == len(page.text.encode()) and size["text_bytes"] / 4 < size["text_tokens"] < size["text_bytes"] / 3
        shot = await agent.ok("browser_take_screenshot", type="jpeg", maxSize=300)
        size = shot.meta["browserfleet/size"]
        assert size["image_bytes"] == len(shot.images[0]) and size["image_tokens"] == -(-300 * 169 // 750)


async def test_the_server_says_how_much_of_pages_is_shown(launch: Launcher, pages: Pages) -> None:
    """And each call may say otherwise."""
    program = launch("--snapshot-mode=interactive")
    async with Connector(program.mcp)("http-modern") as agent:
        page = await agent.ok("browser_navigate", url=pages.at("/"))
        assert "Only what can be acted on is shown" in page.text
        assert "Only what can be acted on" not in (await agent.ok("browser_navigate", url=pages.at("/"), snapshot="full")).text
        assert "### Snapshot" not in (await agent.ok("browser_reload", snapshot="none")).text
        whole = await agent.ok("browser_snapshot")
        assert "Only what can be acted on" not in whole.text, "it is what it is called"


async def test_the_slim_profile_is_enough_to_browse(server: Program, pages: Pages) -> None:
    """In less than 500 tokens: a byte budget that no tokenizer of today exceeds with JSON."""
    async with Connector(f"{server.mcp}?caps=slim,testing")("http-modern") as agent:
        tools = await agent.tools()
        assert "browser_click" in tools and "browser_hover" not in tools and "browser_verify_text_visible" in tools
        await agent.ok("browser_navigate", url=pages.at("/"))
        refused = await agent.call("browser_hover", target="body")
        assert refused.code == "forbidden" and "/mcp?caps=core" in refused.text
        found = await agent.ok("browser_find", text="button")
        await agent.ok("browser_click", target=found.structured["refs"][0])


async def test_long_results_are_cut_where_the_call_says(server: Program, pages: Pages) -> None:
    """In text and in structured form, and the rest is there."""
    async with Connector(server.mcp)("http-modern") as agent:
        await agent.ok("browser_navigate", url=pages.at("/"))
        many = "() => Array.from({ length: 3000 }, (_, n) => `item ${n}`)"
        cut = await agent.ok("browser_evaluate", function=many, max_bytes=2000)
        assert len(cut.text.encode()) < 2200 and cut.structured["omitted"] == ["result"]
        text, cursor = cut.text, cut.structured["next_cursor"]
        while cursor:
            page = await agent.ok("browser_read_cursor", cursor=cursor)
            text, cursor = text + page.text, page.structured["next_cursor"]
        assert all(json.dumps(f"item {n}") in text for n in range(3000))

"""Groups of tools, as clients ask for them: by URL, by flag and by setting."""

from __future__ import annotations

import pytest

from clients import HTTP, STDIO, Agent, Connector
from pages import Pages
from programs import Launcher, Program


async def a_login_begins_another_session(agent: Agent, pages: Pages) -> None:
    """What one session has, by value, is what another one begins with."""
    await agent.ok("browser_navigate", url=pages.at("/"))
    await agent.evaluate("() => { document.cookie = 'who=ann'; localStorage.theme = 'dark'; return 0 }")
    got = await agent.ok("browser_storage_state", filename="me.json")
    state = got.structured["storage_state"]
    assert "- me.json (application/json, " in got.text, "it is a resource as well"

    agent.session = "second"
    opened = await agent.ok("browser_open", storage_state=state)
    assert "1 cookies, 1 sites with local storage" in opened.text
    await agent.ok("browser_navigate", url=pages.at("/"))
    assert await agent.evaluate("() => [document.cookie, localStorage.theme]") == ["who=ann", "dark"]


@pytest.mark.parametrize("kind", HTTP)
async def test_a_url_asks_for_groups(kind: str, server: Program, pages: Pages) -> None:
    """In both eras; what the URL does not ask for is refused with the way to it."""
    async with Connector(f"{server.mcp}?caps=storage,pdf")(kind) as agent:
        tools = await agent.tools()
        assert "browser_cookie_list" in tools and "browser_click" in tools and "browser_route" not in tools
        await a_login_begins_another_session(agent, pages)
        saved = await agent.ok("browser_pdf_save")
        assert "- page.pdf (application/pdf, " in saved.text and not saved.images
        refused = await agent.call("browser_route_list")
        assert refused.code == "forbidden" and "/mcp?caps=network" in refused.text


@pytest.mark.parametrize("kind", STDIO)
async def test_a_setting_asks_for_groups_on_stdio(kind: str, pages: Pages) -> None:
    """There is no URL on stdio."""
    async with Connector("", {"TOOLS__CAPS": "storage"})(kind) as agent:
        assert "browser_storage_state" in await agent.tools()
        await a_login_begins_another_session(agent, pages)
        refused = await agent.call("browser_pdf_save")
        assert refused.code == "forbidden" and "--caps=pdf" in refused.text


async def test_a_flag_asks_for_groups_where_a_url_does_not(launch: Launcher) -> None:
    """As Playwright MCP's flag of this name."""
    program = launch("--caps=vision,testing")
    for url, has, lacks in [
        (program.mcp, "browser_mouse_click_xy", "browser_cookie_list"),
        (f"{program.mcp}?caps=storage", "browser_cookie_list", "browser_mouse_click_xy"),
    ]:
        async with Connector(url)("http-modern") as agent:
            tools = await agent.tools()
            assert has in tools and lacks not in tools

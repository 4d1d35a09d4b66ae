"""What an agent does, from the list of tools to a picture, with each client over each transport."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from clients import ALL, MCP, Connector
from pages import Pages

#: The tools that are always served, in the order in which agents see them, as the reference has it (which a Rust test holds against
#: the catalogue).
REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "tools.md"
TOOLS = re.findall(r"^## `(\w+)`\n\n.*; group `(?:core|session)`", REFERENCE.read_text(), re.MULTILINE)


def png_size(image: bytes) -> tuple[int, int]:
    """Width and height from a PNG's header."""
    assert image[:8] == b"\x89PNG\r\n\x1a\n" and image[12:16] == b"IHDR"
    width, height = struct.unpack(">II", image[16:24])
    return width, height


@pytest.mark.parametrize("kind", ALL)
async def test_an_agent_fills_in_a_form(kind: str, connect: Connector, pages: Pages) -> None:
    """The refs come from the snapshot's text, because that is all an agent has."""
    async with connect(kind) as agent:
        assert await agent.tools() == TOOLS
        page = await agent.ok("browser_navigate", url=pages.at("/"))
        assert f"- Page URL: {pages.at('/')}\n- Page Title: Form" in page.text

        page = await agent.ok("browser_snapshot")
        assert '- heading "Hello"' in page.text
        await agent.ok("browser_type", target=page.ref('textbox "Name"'), text="Ada L.")
        done = await agent.ok("browser_click", target=page.ref('button "Go"'), element="Go button")
        assert "/done?name=Ada+L." in done.text and "Thank you, Ada L." in done.text

        assert await agent.evaluate("() => document.title") == "Done"
        picture = await agent.ok("browser_take_screenshot")
        assert [png_size(image) for image in picture.images] == [(1280, 720)]

        closed = await agent.ok("browser_close")
        assert "No open tabs" in closed.text
        # The session goes on: with a new browser, and nothing of the old one.
        page = await agent.ok("browser_navigate", url=pages.at("/"))
        assert "Hello" in page.text


@pytest.mark.parametrize("kind", MCP)
async def test_the_client_gets_the_era_it_asks_for(kind: str, connect: Connector) -> None:
    """Both eras are served at one URL, and over one kind of pipe."""
    async with connect(kind) as agent:
        assert agent.protocol == ("2025-11-25" if kind.endswith("legacy") else "2026-07-28")


@pytest.mark.parametrize("kind", MCP)
async def test_a_viewport_is_as_large_as_was_asked_for(kind: str, connect: Connector, pages: Pages) -> None:
    """`browser_open` is the one way to get another size, and it tells the handle in every era."""
    async with connect(kind) as agent:
        opened = await agent.ok("browser_open", width=640, height=480)
        assert opened.structured["session_id"].startswith("bs_")
        await agent.ok("browser_navigate", url=pages.at("/"))
        picture = await agent.ok("browser_take_screenshot")
        assert [png_size(image) for image in picture.images] == [(640, 480)]


@pytest.mark.parametrize("kind", ALL)
async def test_the_tools_of_a_working_day(kind: str, connect: Connector, pages: Pages) -> None:
    """Forms, keys, tabs, console, requests: each in one call, by every client over every transport."""
    async with connect(kind) as agent:
        page = await agent.ok("browser_navigate", url=pages.at("/"))
        field = {"name": "Name", "type": "textbox", "target": page.ref('textbox "Name"'), "value": "Ada"}
        filled = await agent.ok("browser_fill_form", fields=[field])
        assert "fill('Ada');" in filled.text
        await agent.ok("browser_press_key", key="End")
        found = await agent.ok("browser_find", text="ada")
        assert "Found " in found.text and 'textbox "Name"' in found.text
        await agent.evaluate("() => { console.warn('careful'); return 1 }")
        said = await agent.ok("browser_console_messages", level="warning")
        assert "[WARNING] careful" in said.text
        asked = await agent.ok("browser_network_requests", static=True)
        assert f"1. [GET] {pages.at('/')} => [200]" in asked.text
        tabs = await agent.ok("browser_tabs", action="new", url=pages.at("/"))
        assert "- 1: (current) [Form]" in tabs.text
        await agent.ok("browser_tabs", action="close", index=1)
        back = await agent.ok("browser_hover", target="getByRole('button', { name: 'Go' })")
        assert ".hover();" in back.text and "Ada" in back.text

"""Traces and videos as clients get them: resources of their session."""

from __future__ import annotations

import json

import pytest

from clients import HTTP, Connector
from pages import Pages
from programs import Program

#: How every file of EBML begins, WebM's included.
EBML = bytes.fromhex("1a45dfa3")


@pytest.mark.parametrize("kind", HTTP)
async def test_what_is_recorded_is_kept_as_a_resource(kind: str, server: Program, pages: Pages) -> None:
    """Under the name that was given at the beginning; and it is not shown."""
    async with Connector(f"{server.mcp}?caps=devtools")(kind) as agent:
        await agent.ok("browser_navigate", url=pages.at("/"))
        started = await agent.ok("browser_start_video", filename="film.webm", fps=25)
        assert "### Kept" not in started.text, "there is nothing yet"
        await agent.ok("browser_start_tracing")
        await agent.ok("browser_type", target="input", text="Ada", submit=True)
        video = await agent.ok("browser_stop_video")
        assert "- film.webm (video/webm, " in video.text and not video.images
        assert (await agent.read(video)).startswith(EBML)
        trace = await agent.ok("browser_stop_tracing")
        assert "- trace.json (application/json, " in trace.text
        events = json.loads(await agent.read(trace))["traceEvents"]
        assert any(pages.at("/done?name=Ada") in json.dumps(event) for event in events)


async def test_a_recording_is_run_again_in_another_session(server: Program, pages: Pages) -> None:
    """By one call: what one agent has found out another one does."""
    async with Connector(f"{server.mcp}?caps=devtools")("http-modern") as agent:
        await agent.ok("browser_open")
        await agent.ok("browser_start_recording")
        page = await agent.ok("browser_navigate", url=pages.at("/"))
        await agent.ok("browser_type", target=page.ref('textbox "Name"'), text="Ada")
        await agent.ok("browser_click", target=page.ref('button "Go"'))
        steps = (await agent.ok("browser_stop_recording")).structured["steps"]
        agent.session = "another"
        again = await agent.ok("browser_batch", steps=steps)
        assert "3 of 3 steps ok" in again.text and "Thank you, Ada" in again.text

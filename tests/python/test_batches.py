"""Several calls in one, tasks, and reading within a budget, over MCP."""

from __future__ import annotations

import pytest

from clients import HTTP, MCP, Agent, Connector
from pages import Pages
from programs import Launcher


def _visit(pages: Pages, name: str) -> dict[str, object]:
    """A task that fills the form under a name and sends it."""
    steps = [
        {"tool": "browser_navigate", "arguments": {"url": pages.at("/")}},
        {"tool": "browser_type", "arguments": {"target": "input", "text": name}},
        {"tool": "browser_click", "arguments": {"target": "text=Go"}},
        {"tool": "browser_evaluate", "arguments": {"function": "() => document.body.innerText"}},
    ]
    return {"name": name, "steps": steps}


@pytest.mark.parametrize("kind", MCP)
async def test_a_batch_is_one_call(kind: str, connect: Connector, pages: Pages) -> None:
    """Whatever the transport and the era: a report, one snapshot, and the same for programs."""
    async with connect(kind) as agent:
        await agent.ok("browser_open")
        done = await agent.ok("browser_batch", steps=_visit(pages, "Ada")["steps"])
        assert [step["status"] for step in done.structured["steps"]] == ["ok"] * 4
        assert "4 of 4 steps ok" in done.text and "Thank you, Ada" in done.text and done.text.count("### Snapshot") == 1
        nested = await agent.call("browser_batch", steps=[{"tool": "browser_close"}])
        assert nested.code == "invalid_argument" and "Nothing of the batch has run" in nested.text


@pytest.mark.parametrize("kind", HTTP)
@pytest.mark.parametrize("concurrent", [False, True])
async def test_tasks_do_not_stop_each_other(kind: str, concurrent: bool, launch: Launcher, pages: Pages) -> None:
    """One of them fails; its neighbours succeed, each is told of, and concurrent ones leave no session."""
    program = launch("--max-browsers=3", "--caps=automation")
    heard: list[str] = []

    async def hear(_progress: float, _total: float | None, message: str | None) -> None:
        heard.append(message or "")

    async with Connector(program.mcp)(kind) as agent:
        await agent.ok("browser_navigate", url=pages.at("/"))
        broken = {"name": "broken", "steps": [{"tool": "browser_navigate", "arguments": {"url": "http://127.0.0.1:9/"}}]}
        tasks = [_visit(pages, "Ada"), broken, _visit(pages, "Bob")]
        reply = await agent.call("session_run_tasks", tasks=tasks, concurrent=concurrent, progress=hear)
        assert [task["status"] for task in reply.structured["tasks"]] == ["ok", "failed", "ok"], reply.text
        assert [task["own_session"] for task in reply.structured["tasks"]] == [concurrent] * 3
        assert "Thank you, Ada" in reply.text and "Thank you, Bob" in reply.text
        assert sum(line.endswith("begins") for line in heard) == 3 and any("navigation_failed" in line for line in heard)
        assert len(program.get("/sessions")["sessions"]) == 1, "only the agent's own is left"


async def test_a_page_is_read_within_a_budget(connect: Connector, pages: Pages) -> None:
    """What does not fit is behind a cursor, and nothing of it is lost."""
    async with connect("http-modern") as agent:
        await agent.ok("browser_navigate", url=pages.at("/"))
        grow = """() => { for (let n = 0; n < 200; n++) {
          const p = document.createElement('p'); p.textContent = `paragraph ${n}`; document.body.append(p) } return 0 }"""
        await agent.evaluate(grow)
        text = await _read_whole(agent, 1024)
        assert all(f"paragraph {n}" in text for n in range(200))


async def _read_whole(agent: Agent, most: int) -> str:
    page = await agent.ok("browser_read", max_bytes=most)
    texts = [page.text]
    while cursor := page.structured.get("next_cursor"):
        assert len(page.text) < most + 600 and "<untrusted-" in page.text, "each page is marked"
        page = await agent.ok("browser_read_cursor", cursor=cursor, max_bytes=most)
        texts.append(page.text)
    assert len(texts) > 2
    return "\n".join(texts)

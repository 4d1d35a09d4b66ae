"""The audit trail, and that nothing of what agents say or read is in anything that operators see."""

from __future__ import annotations

import json
import secrets
import signal
from pathlib import Path

import pytest

from clients import Connector
from pages import Pages
from programs import Launcher

#: In every place where an agent or a page may put a secret.
CANARY = f"canary{secrets.token_hex(8)}"

pytestmark = pytest.mark.anyio


async def test_calls_are_noted_and_secrets_are_nowhere(launch: Launcher, pages: Pages, tmp_path: Path) -> None:
    """One line a call, with hashes; the log, the trail and the metrics hold no content and no handle."""
    trail = tmp_path / "audit.jsonl"
    server = launch(AUDIT__FILE=str(trail), LOG__LEVEL="debug", LOG__FORMAT="json")
    async with Connector(server.mcp)("mcp-modern") as agent:
        await agent.ok("browser_navigate", url=f"{pages.at('/')}?token={CANARY}#{CANARY}")
        await agent.ok("browser_evaluate", function=f"() => {{ document.cookie = 'c={CANARY}'; return '{CANARY}' }}")
        failed = await agent.call("browser_evaluate", function=f"() => {{ throw new Error('{CANARY}') }}")
        assert failed.is_error
        await agent.ok("browser_press_key", key="a")
        handle = agent.session
        lines = server.get("/sessions")["sessions"]
        with_metrics = server.text("/metrics")
    server.send(signal.SIGTERM)
    assert server.wait() == 0
    entries = [json.loads(line) for line in trail.read_text().splitlines()]
    tools = [entry["tool"] for entry in entries]
    assert tools[:4] == ["browser_navigate", "browser_evaluate", "browser_evaluate", "browser_press_key"]
    navigated, evaluated, threw, _ = entries[:4]
    assert navigated["origin"] == pages.at("/").removesuffix("/") and evaluated["origin"] is None
    assert (navigated["outcome"], threw["outcome"]) == ("ok", "script_error")
    assert navigated["session"] == lines[0]["session"] and navigated["principal"] == lines[0]["principal"]
    assert navigated["bytes"] > 0 and navigated["duration_ms"] >= 0
    assert trail.stat().st_mode & 0o777 == 0o600
    seen = trail.read_text() + server.place.log.read_text(errors="replace") + with_metrics + json.dumps(lines)
    assert handle and handle not in seen and CANARY not in seen

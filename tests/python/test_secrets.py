"""Secrets by name: typed into pages, never seen by who has them typed."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from clients import Connector
from pages import Pages
from programs import Launcher, Program

#: What must be in no reply and in no log, with everything in it that some encoding changes.
CANARY = "C4nary's \"w&rd\" <1/2> 50%é"
OTHER = "another one's value"

#: A page that says what it is told, in every way a page can.
TELL = """() => {
  const value = document.querySelector('input').value;
  console.log('said', value);
  console.error(JSON.stringify({ value }));
  document.title = value;
  document.cookie = 'told=' + encodeURIComponent(value);
  localStorage.told = value;
  const link = document.createElement('a');
  [link.textContent, link.href] = [value, '/?told=' + encodeURIComponent(value)];
  document.body.append(link);
  fetch('/told?' + new URLSearchParams({ value }));
  return { value, written: JSON.stringify(value), encoded: encodeURIComponent(value), base: btoa(String.fromCharCode(...new TextEncoder().encode(value))) };
}"""


@pytest.fixture
def guarded(launch: Launcher, pages: Pages, tmp_path: Path) -> Iterator[Program]:
    """A server with secrets, one of them for somebody else."""
    file = tmp_path / "secrets.json"
    here = pages.at("").rstrip("/")
    elsewhere = ["https://elsewhere.example"]
    file.write_text(json.dumps({
        "LOGIN": {"value": CANARY, "origins": [here]},
        "THEIRS": {"value": OTHER, "origins": [here], "keys": ["0123456789ab"]},
        "ELSEWHERE": {"env": "TEST_ELSEWHERE", "origins": elsewhere},
    }))
    file.chmod(0o600)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEST_ELSEWHERE", CANARY + OTHER)
        yield launch(SECRETS__FILE=str(file), LOG__LEVEL="debug")


def _shapes(value: str) -> list[str]:
    """A value as replies could have it."""
    written = json.dumps(value, ensure_ascii=False)[1:-1]
    return [value, written, quote(value, safe=""), quote(value), base64.b64encode(value.encode()).decode()]


def _assert_unseen(text: str) -> None:
    """No reply and no log has a value, nor a telling part of one."""
    for shape in [*_shapes(CANARY), "C4nary", OTHER]:
        assert shape not in text, f"{shape!r} in {text}"


async def test_a_secret_is_typed_and_never_shown(guarded: Program, pages: Pages) -> None:
    """By each tool that types, and whatever tool looks afterwards."""
    said: list[str] = []
    async with Connector(f"{guarded.mcp}?caps=all")("http-modern") as agent:

        async def ask(tool: str, **arguments: object) -> str:
            reply = await agent.call(tool, **arguments)
            said.append(reply.text + json.dumps(reply.structured, ensure_ascii=False))
            return reply.text

        await agent.ok("browser_navigate", url=pages.at("/"))
        typed = await ask("browser_type", target="input", text="${secret:LOGIN}")
        assert "fill('${secret:LOGIN}')" in typed
        length = await agent.evaluate("() => document.querySelector('input').value.length")
        assert length == len(CANARY), "it is there"
        field = {"target": "input", "type": "textbox", "value": "${secret:LOGIN}"}
        await ask("browser_fill_form", fields=[field])
        steps = [
            {"tool": "browser_type", "arguments": {"target": "input", "text": "${secret:LOGIN}", "slowly": True}},
            {"tool": "browser_evaluate", "arguments": {"function": TELL}},
            {"tool": "browser_extract", "arguments": {"schema": {"v": {"selector": "input", "attribute": "value"}, "a": "a"}}},
        ]
        assert "${secret:LOGIN}" in await ask("browser_batch", steps=steps)
        for tool, arguments in [
            ("browser_snapshot", {"filename": "page.txt"}),
            ("browser_find", {"regex": "told|C4"}),
            ("browser_read", {}),
            ("browser_evaluate", {"function": TELL}),
            ("browser_evaluate", {"function": "() => { throw new Error(document.querySelector('input').value) }"}),
            ("browser_console_messages", {}),
            ("browser_network_requests", {"static": True}),
            ("browser_network_request", {"index": 2}),
            ("browser_cookie_list", {}),
            ("browser_localstorage_list", {}),
            ("browser_storage_state", {}),
            ("browser_verify_value", {"type": "textbox", "target": "input", "element": "it", "value": "no"}),
            ("browser_tabs", {"action": "list"}),
            ("browser_click", {"target": "text=Go"}),
            ("browser_network_requests", {"static": True}),
            ("session_run_tasks", {"tasks": [{"name": "look", "steps": [{"tool": "browser_snapshot"}]}]}),
        ]:
            await ask(tool, **arguments)
    for text in said:
        _assert_unseen(text)
    assert sum("${secret:LOGIN}" in text for text in said) > 8, "what was taken out is named"
    _assert_unseen(guarded.place.log.read_text(errors="replace"))


async def test_recordings_have_secrets_by_name(guarded: Program, pages: Pages) -> None:
    """Their steps and their code; and a trace of the browser, which sent one in a URL."""
    async with Connector(f"{guarded.mcp}?caps=devtools")("http-modern") as agent:
        await agent.ok("browser_open")
        await agent.ok("browser_start_recording")
        await agent.ok("browser_start_tracing")
        await agent.ok("browser_navigate", url=pages.at("/"))
        await agent.ok("browser_type", target="input", text="${secret:LOGIN}", submit=True)
        traced = await agent.ok("browser_stop_tracing")
        recorded = await agent.ok("browser_stop_recording")
        trace = (await agent.read(traced)).decode()
        for text in (recorded.text, json.dumps(recorded.structured, ensure_ascii=False), trace):
            _assert_unseen(text)
        assert recorded.structured["steps"][1]["arguments"]["text"] == "${secret:LOGIN}"
        assert "fill('${secret:LOGIN}')" in recorded.text and "/done?name=${secret:LOGIN}" in trace


async def test_a_secret_is_for_its_origins_and_its_keys(guarded: Program, pages: Pages) -> None:
    """Anything else is refused before anything is typed."""
    async with Connector(guarded.mcp)("http-modern") as agent:
        here = pages.at("/")
        for url, name, code in [
            (here, "ELSEWHERE", "forbidden"),
            (here.replace("127.0.0.1", "localhost"), "LOGIN", "forbidden"),
            (here, "THEIRS", "invalid_argument"),
            (here, "NONE", "invalid_argument"),
        ]:
            await agent.ok("browser_navigate", url=url)
            refused = await agent.call("browser_type", target="input", text=f"${{secret:{name}}}")
            assert refused.code == code and name in refused.text, refused.text
            assert await agent.evaluate("() => document.querySelector('input').value") == ""
            _assert_unseen(refused.text)
        await agent.ok("browser_navigate", url=here)
        await agent.ok("browser_type", target="input", text="plain ${secret: text")
        assert await agent.evaluate("() => document.querySelector('input').value") == "plain ${secret: text"

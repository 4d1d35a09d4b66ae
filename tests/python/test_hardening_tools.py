"""What tools are asked for and cannot do: `docs/hardening.md`, rows H. Each is told so, and the session goes on."""

from __future__ import annotations

from typing import Any

import pytest

from clients import HTTP, Agent, Connector
from pages import Pages
from programs import Launcher, Program

SETTINGS = {"TOOL__ACTION_TIMEOUT": "1s", "POOL__MIN_WARM": "0"}

#: What no argument of that type of JSON schema takes, whatever it is for.
WRONG = {"string": {"a": 1}, "number": "many", "integer": "many", "boolean": "perhaps", "array": "one", "object": "one"}

#: Spellings of this machine and of what only machines of a network may ask. Chromium opened the first eight.
INSIDE = (
    "127.1", "0", "0x7f000001", "2130706433", "①②⑦.0.0.1", "[::ffff:127.0.0.1]", "localhost.", "a.localhost",
    "0x7f.1", "017700000001", "127.0.0.1.", "%31%32%37.0.0.1", "[::]", "[::1]", "0.0.0.0", "ⓛocalhost",
    "169.254.169.254", "[::ffff:169.254.169.254]", "[64:ff9b::169.254.169.254]", "metadata.google.internal", "100.64.0.1",
    "10.0.0.1", "172.16.0.1", "192.168.0.1", "[fc00::1]", "[fe80::1]", "224.0.0.1", "255.255.255.255", "[2002:7f00:1::]",
)  # fmt: skip

#: Addresses that are no web page's, however they are written.
NO_PAGE = (
    "file:///etc/passwd", "FILE:/etc/passwd", "\tfile:///etc/passwd", " \n file:///etc/passwd", "fi\nle:///etc/passwd",
    "view-source:http://127.0.0.1/", "view-source:file:///etc/passwd", "chrome://crash", "chrome:version",
    "devtools://devtools/bundled/inspector.html", "javascript:alert(1)", "JaVaScRiPt:alert(1)", "data:text/html,hello",
    "blob:http://127.0.0.1/x", "filesystem:http://127.0.0.1/temporary/x", "ftp://127.0.0.1/", "about:config",
    "http://user:password@127.0.0.1/", "http://user@127.0.0.1/", f"http://127.0.0.1/{'x' * 8192}",
    "ws://127.0.0.1/", "gopher://127.0.0.1/", "intent://x", "ms-settings:x://",
)  # fmt: skip


def types(schema: dict[str, Any]) -> set[str]:
    """The types that an argument may have."""
    if "anyOf" in schema:
        return set().union(*(types(each) for each in schema["anyOf"]))
    named = schema.get("type", "object" if "$ref" in schema else "string")
    return set(named if isinstance(named, list) else [named]) - {"null"}


async def listed(agent: Agent) -> dict[str, dict[str, Any]]:
    """The arguments of every tool, by its name."""
    tools = (await agent._client.list_tools()).tools  # type: ignore[union-attr]
    return {tool.name: tool.input_schema.get("properties", {}) for tool in tools}


@pytest.mark.parametrize("kind", HTTP)
async def test_every_argument_of_every_tool_is_checked_before_anything_is_started(kind: str, server: Program) -> None:
    """The answer names what is wrong. A call that cannot run makes no session and takes no browser."""
    async with Connector(f"{server.mcp}?caps=all")(kind) as agent:
        tools = await listed(agent)
        assert len(tools) > 60
        for tool, arguments in tools.items():
            cases: list[tuple[str, Any]] = [("surprise", 1)]
            cases += [(name, wrong) for name, schema in arguments.items() for wrong in wrongs(schema)]
            for name, value in cases:
                reply = await agent.call(tool, **{name: value})
                # A modern call of a session that is named nowhere hears of that first.
                assert reply.code == "invalid_argument", f"{tool} {name}={value}: {reply}"
                assert kind == "http-modern" or name in reply.text, f"{tool} {name}={value}: {reply}"
                assert len(reply.text) <= 1024, "no longer than an agent has to read"
        assert server.get("/health")["sessions"] == 0 and server.browsers() == []


def wrongs(schema: dict[str, Any]) -> list[Any]:
    """Values of none of an argument's types."""
    allowed = types(schema)
    return [wrong for kind, wrong in WRONG.items() if kind in allowed and not fits(wrong, allowed)][:1]


def fits(value: Any, allowed: set[str]) -> bool:
    """Whether a value is of one of these types."""
    kinds = {dict: "object", str: "string"}
    return kinds[type(value)] in allowed


@pytest.mark.parametrize("kind", HTTP)
async def test_numbers_that_make_no_sense_are_refused(kind: str, server: Program, pages: Pages) -> None:
    """Every range that the list of tools promises holds; so do types. More than there can be is as much as there can be."""
    async with Connector(f"{server.mcp}?caps=all")(kind) as agent:
        await agent.ok("browser_navigate", url=pages.at("/"))
        for tool, arguments in (await listed(agent)).items():
            for name, schema in arguments.items():
                for number in beyond(schema, shortened=(tool, name) in SHORTENED):
                    reply = await agent.call(tool, **(SENSIBLE.get((tool, name), {}) | {name: number}))
                    assert reply.code == "invalid_argument", f"{tool} {name}={number}: {reply}"
        for target in ({"x": 1e300, "y": 1}, {"x": 1, "y": -1e300}):
            assert (await agent.call("browser_mouse_click_xy", **target)).code == "invalid_argument"
        assert "Hello" in (await agent.ok("browser_snapshot")).text


#: Where too large a number stands for the largest: waiting, as Playwright MCP does, and two that only show more.
SHORTENED = (("browser_wait_for", "time"), ("browser_snapshot", "depth"), ("browser_find", "context"))

#: What a number says nothing without.
SENSIBLE: dict[tuple[str, str], dict[str, Any]] = {
    ("browser_tabs", "index"): {"action": "select"},
    ("browser_resize", "width"): {"height": 100},
    ("browser_resize", "height"): {"width": 100},
    ("browser_take_screenshot", "quality"): {"type": "jpeg"},
    ("browser_route", "status"): {"pattern": "**/x"},
    ("browser_find", "context"): {"text": "Hello"},
    ("browser_mouse_click_xy", "clickCount"): {"x": 1, "y": 1},
    ("browser_mouse_click_xy", "delay"): {"x": 1, "y": 1},
    ("browser_open", "width"): {"height": 100},
    ("browser_open", "height"): {"width": 100},
    ("browser_emulate", "width"): {"height": 100},
    ("browser_emulate", "height"): {"width": 100},
}


def beyond(schema: dict[str, Any], shortened: bool) -> list[Any]:
    """Numbers outside of a range, if that is what is described; and what is none where one is wanted."""
    schema = next((each for each in schema.get("anyOf", []) if each.get("type") != "null"), schema)
    if not types(schema) & {"integer", "number"}:
        return []
    least, most = schema.get("minimum"), None if shortened else schema.get("maximum")
    fractions = [1.5, 1e300, -1e300, 2**70] if "integer" in types(schema) else []
    return [*fractions, *([] if least is None else [least - 1]), *([] if most is None else [most + 1])]


@pytest.mark.parametrize("kind", HTTP)
async def test_targets_that_are_none_say_so(kind: str, connect: Connector, pages: Pages) -> None:
    """Also very long ones, and those that are too many things at once."""
    async with connect(kind) as agent:
        await agent.ok("browser_navigate", url=pages.at("/"))
        await agent.evaluate("() => { for (let n = 0; n < 10000; n++) document.body.append(document.createElement('li')); return 1 }")
        for target in ("e999999", "f9e1", "", "#", ">>>", "div[", "x" * 900_000, "li", "e1' or '1'='1", "../../e1", "\0"):
            reply = await agent.call("browser_click", target=target)
            assert reply.code == "element_not_actionable", f"{target[:20]!r}: {reply.text[:2000]}"
            assert len(reply.text) < 10_000, f"{target[:20]!r}"
        assert "Hello" in (await agent.ok("browser_snapshot")).text


async def test_addresses_that_are_no_pages_are_blocked(connect: Connector, pages: Pages) -> None:
    """By the parsed address, and nothing of what they lead to is in the answer."""
    async with connect("http-modern") as agent:
        await agent.ok("browser_navigate", url=pages.at("/"))
        for url in NO_PAGE:
            reply = await agent.call("browser_navigate", url=url)
            assert reply.code in ("url_blocked", "invalid_argument"), f"{url[:60]!r}: {reply}"
            assert "root:" not in reply.text and len(reply.text) < 2000
        assert "Hello" in (await agent.ok("browser_snapshot")).text


async def test_no_spelling_of_this_machine_leads_to_it(launch: Launcher, pages: Pages) -> None:
    """Where browsers reach public addresses only; and the page that they would have reached has seen nobody."""
    port = pages.at("/inside").rsplit(":", 1)[1]
    program = launch(EGRESS__NETWORK="public", POOL__MIN_WARM="0")
    async with Connector(program.mcp)("http-modern") as agent:
        await agent.ok("browser_open")
        for host in INSIDE:
            for at in (f"http://{host}:{port}", f"https://{host}/inside", f"http:/\\{host}:{port}", f"http://{host}/"):
                reply = await agent.call("browser_navigate", url=at)
                assert reply.code in ("url_blocked", "invalid_argument"), f"{at}: {reply}"
    assert pages.visits("/inside") == 0


async def test_no_path_of_the_server_is_taken(connect: Connector, pages: Pages) -> None:
    """Files come by value, or by the URI of what is kept; a name is a name."""
    async with connect("http-modern") as agent:
        await agent.ok("browser_navigate", url=pages.at("/"))
        upload = await agent.call("browser_file_upload", paths=["/etc/passwd"])
        assert upload.is_error and "root:" not in upload.text, upload
        state = await agent.call("browser_take_screenshot", filename="../../../../tmp/escaped.png")
        assert state.code in ("ok", "invalid_argument"), state
        assert "/tmp/escaped" not in state.text.replace("../../../../tmp/escaped.png", "")

"""MCP clients, as agents use them: one way to call, whatever the transport, the protocol's era or the library."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import fastmcp
from mcp import Client, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.dispatcher import ProgressFnT
from mcp.types import CallToolResult, TextResourceContents

from programs import Place, binary
from typescript import TypeScriptClient

#: Transport and era. `modern` is what the client's own negotiation leads to.
HTTP = ("http-modern", "http-legacy")
STDIO = ("stdio-modern", "stdio-legacy")
MCP = HTTP + STDIO
#: The TypeScript SDK's first generation (the eras with `initialize`) and its second.
TYPESCRIPT = ("typescript-v1", "typescript-v2")
ALL = (*MCP, "fastmcp", *TYPESCRIPT)

#: Tools that are about all sessions and take no `session_id`.
WITHOUT_SESSION = ("session_list", "session_stats", "browser_get_config")


@dataclass(frozen=True)
class Reply:
    """A tool's answer."""

    text: str
    images: tuple[bytes, ...]
    structured: dict[str, Any]
    is_error: bool
    #: What is beside the answer, for programs.
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def code(self) -> str:
        """What a program may act upon: `ok`, or the code of the error."""
        return self.structured["error"]["code"] if self.is_error else "ok"

    @property
    def result(self) -> Any:
        """What a script answered, as JSON."""
        words = re.search(r"^### Result\n<(untrusted-\w{32}) origin=[^\n]*\n(.*?)\n</\1>$", self.text, re.MULTILINE | re.DOTALL)
        assert words, self.text
        return json.loads(words[2])

    def ref(self, label: str) -> str:
        """The ref of an element, read from the snapshot as an agent reads it: `textbox "Name"`."""
        line = re.search(rf"^ *- {re.escape(label)}.*?\[ref=(\w+)\]", self.text, re.MULTILINE)
        assert line, self.text
        return line[1]


class Agent:
    """A client that remembers the handle it was given, and passes it on with each call."""

    def __init__(self, client: Client | fastmcp.Client[Any] | TypeScriptClient) -> None:
        self._client = client
        self.session: str | None = None

    async def call(
        self, tool: str, *, progress: ProgressFnT | None = None, patience: float | None = None, **arguments: Any
    ) -> Reply:
        """Calls a tool; errors of the tool are answers, too. The client itself gives up when its patience ends."""
        if self.session and tool not in WITHOUT_SESSION:
            arguments.setdefault("session_id", self.session)
        if isinstance(self._client, TypeScriptClient):
            result = await self._client.call_tool(tool, arguments)
        elif isinstance(self._client, fastmcp.Client):
            result = await self._client.call_tool_mcp(tool, arguments, progress, patience)
        else:
            result = await self._client.call_tool(tool, arguments, patience, progress)
        reply = _reply(result)
        self.session = self.session or reply.structured.get("session_id")
        return reply

    async def ok(self, tool: str, **arguments: Any) -> Reply:
        """Calls a tool that must succeed."""
        reply = await self.call(tool, **arguments)
        assert not reply.is_error, f"{tool}: {reply.text}"
        return reply

    async def back(self, tool: str, **arguments: Any) -> Reply:
        """Calls a tool of a session that has lost its browser: perhaps the first call is told so; then everything is back."""
        reply = await self.call(tool, **arguments)
        if reply.code in ("browser_gone", "lease_lost"):
            reply = await self.call(tool, **arguments)
        assert not reply.is_error and "Restored" in reply.text, reply
        return reply

    async def evaluate(self, script: str) -> Any:
        """What a script answers."""
        return (await self.ok("browser_evaluate", function=script)).result

    async def tools(self) -> list[str]:
        """The names of the tools, in the server's order."""
        if isinstance(self._client, TypeScriptClient):
            return await self._client.tools()
        listed = await self._client.list_tools()
        return [tool.name for tool in (listed if isinstance(listed, list) else listed.tools)]

    async def read(self, reply: Reply) -> bytes:
        """The one resource that a reply says it has kept."""
        assert isinstance(self._client, Client)
        (uri,) = re.findall(r"browserfleet://[\w./~%-]+", reply.text)
        content = (await self._client.read_resource(uri)).contents[0]
        return content.text.encode() if isinstance(content, TextResourceContents) else base64.b64decode(content.blob)

    async def output_schemas(self) -> dict[str, dict[str, Any]]:
        """What tools promise of their structured results, by name; nothing for those that promise none."""
        assert isinstance(self._client, Client)
        tools = (await self._client.list_tools()).tools
        return {tool.name: tool.output_schema for tool in tools if tool.output_schema}

    @property
    def protocol(self) -> str:
        """The negotiated version."""
        assert not isinstance(self._client, fastmcp.Client)
        return self._client.protocol_version


@dataclass
class Connector:
    """Connects agents: over HTTP to a server that runs, over stdio to a process of their own."""

    url: str
    settings: dict[str, str] = field(default_factory=dict)
    #: An API key, for servers that ask for one.
    key: str | None = None

    @asynccontextmanager
    async def __call__(self, kind: str) -> AsyncIterator[Agent]:
        """An agent of a kind of `ALL`. Its sessions end with it, and a process of its own leaves nothing behind."""
        connection = self._stdio(kind) if kind.startswith("stdio") else self._http(kind)
        try:
            async with connection as agent:
                yield agent
        except BaseExceptionGroup as group:
            # The clients' task groups wrap what a test raises, several times: reports show the failure itself.
            raise _only(group) from None

    @asynccontextmanager
    async def _http(self, kind: str) -> AsyncIterator[Agent]:
        async with AsyncExitStack() as stack:
            client: Client | fastmcp.Client[Any] | TypeScriptClient
            if kind in TYPESCRIPT:
                client = TypeScriptClient(kind.removeprefix("typescript-"), self.url)
            elif kind == "fastmcp":
                client = fastmcp.Client(self.url, auth=self.key)
            elif self.key:
                headers = {"Authorization": f"Bearer {self.key}"}
                http = await stack.enter_async_context(create_mcp_http_client(headers))
                client = Client(streamable_http_client(self.url, http_client=http), mode=_mode(kind))
            else:
                client = Client(self.url, mode=_mode(kind))
            await stack.enter_async_context(client)
            agent = Agent(client)
            yield agent
            if agent.session:
                await agent.call("session_close")

    @asynccontextmanager
    async def _stdio(self, kind: str) -> AsyncIterator[Agent]:
        place = Place(self.settings)
        command = StdioServerParameters(command=binary("browserfleet"), args=["stdio"], env=place.environment)
        try:
            with place.log.open("a") as log:
                async with Client(stdio_client(command, errlog=log), mode=_mode(kind)) as client:
                    yield Agent(client)
            place.assert_as_before()
        finally:
            place.remove()


def _only(error: BaseException) -> BaseException:
    """What a group of one stands for."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _mode(kind: str) -> str:
    return "legacy" if kind.endswith("legacy") else "auto"


def _reply(result: CallToolResult) -> Reply:
    texts = [block.text for block in result.content if block.type == "text"]
    images = [base64.b64decode(block.data) for block in result.content if block.type == "image"]
    return Reply("\n".join(texts), tuple(images), result.structured_content or {}, bool(result.is_error), result.meta or {})

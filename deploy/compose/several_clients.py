"""Several clients at once: three MCP clients over the fleet of docker-compose.yml, and a front end that is stopped in the middle.

Each writes its name into the storage of the same site, in a browser of its own; none sees another's, neither before nor after.

    pip install mcp
    python deploy/compose/several_clients.py

`--page` chooses the site, `--stop ""` leaves the front ends alone; COMPOSE is the command for compose (docker compose).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import subprocess
from pathlib import Path

from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

HERE = Path(__file__).resolve().parent
NAMES = ("ada", "grace", "barbara")


class Agent:
    """A client with a connection and a browser of its own."""

    def __init__(self, name: str, client: Client) -> None:
        self.name, self._client = name, client
        self._session: dict[str, str] = {}

    async def call(self, tool: str, **arguments: object) -> str:
        """Calls a tool in the agent's session, which the first call opens."""
        result = await self._client.call_tool(tool, {**arguments, **self._session})
        text = "\n".join(block.text for block in result.content if block.type == "text")
        if result.is_error:
            raise RuntimeError(f"{self.name}: {tool}: {text}")
        self._session = {"session_id": (result.structured_content or {}).get("session_id") or self._session["session_id"]}
        return text

    async def who(self) -> str:
        """Whose name the site has kept in this browser."""
        text = await self.call("browser_evaluate", function="() => 'kept: ' + localStorage.name")
        return text.split("kept: ", 1)[1].split('"', 1)[0]


async def run(agent: Agent, page: str, everybody: asyncio.Barrier, stop: str) -> None:
    """What one client does, side by side with the others."""
    await agent.call("browser_navigate", url=page)
    await agent.call("browser_evaluate", function=f"() => {{ localStorage.name = '{agent.name}' }}")
    await everybody.wait()
    print(f"{agent.name:8} finds: {await agent.who()}")
    await everybody.wait()
    stopping = None
    if stop and agent.name == NAMES[0]:
        print(f"-- {stop} is stopped while all go on")
        stopping = await asyncio.create_subprocess_exec(*compose(), "stop", stop, stderr=subprocess.DEVNULL)
    calls = 0
    while stopping is None and calls < 40 or stopping is not None and stopping.returncode is None:
        kept = await agent.who()
        assert kept == agent.name, f"{agent.name} finds {kept}"
        calls += 1
    await everybody.wait()
    print(f"{agent.name:8} finds: {await agent.who()}, after {calls} more calls and no failure")
    await agent.call("session_close")


def compose() -> list[str]:
    """The command for compose."""
    return shlex.split(os.environ.get("COMPOSE", "docker compose"))


async def connected(name: str, arguments: argparse.Namespace, everybody: asyncio.Barrier) -> None:
    """Connects one client for as long as it works."""
    headers = {"Authorization": f"Bearer {arguments.key.read_text().strip()}"}
    async with create_mcp_http_client(headers) as http, Client(streamable_http_client(arguments.url, http_client=http)) as client:
        await run(Agent(name, client), arguments.page, everybody, arguments.stop)


async def main() -> None:
    """Three clients, and everything as it was afterwards."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8931/mcp")
    parser.add_argument("--key", type=Path, default=HERE / "secrets" / "key")
    parser.add_argument("--page", default="https://example.com/")
    parser.add_argument("--stop", default="frontend-1", help="the front end that is stopped")
    arguments = parser.parse_args()
    everybody = asyncio.Barrier(len(NAMES))
    try:
        async with asyncio.timeout(180):
            await asyncio.gather(*(connected(name, arguments, everybody) for name in NAMES))
    finally:
        if arguments.stop:
            subprocess.run([*compose(), "start", arguments.stop], check=True, stderr=subprocess.DEVNULL)
    print("nothing is lost")


if __name__ == "__main__":
    asyncio.run(main())

"""A reverse proxy without affinity, such as anybody has before several front ends: nothing of a client sticks."""

from __future__ import annotations

import itertools
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import httpx2
import uvicorn
from starlette.types import Receive, Scope, Send

from waiting import BOUND, until

#: Headers about one connection: the next one has its own.
HOP_BY_HOP = {b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade"}

#: Answers may take as long as calls do; only connecting is quick. A front end that stops lets connections wait for a second
#: before it refuses them, and the proxy shares two processors with everybody.
PATIENCE = httpx2.Timeout(None, connect=10.0)


class Proxy:
    """Each request goes to the next front end, over a connection of its own. When *connecting* fails, the one after it is
    tried; what has been sent once is never sent again, because nobody knows whether it ran."""

    def __init__(self, upstreams: Sequence[str]) -> None:
        """`upstreams` are the addresses of the front ends."""
        self.upstreams = list(upstreams)
        #: How many answers came from each.
        self.served: Counter[str] = Counter()
        #: Requests that broke off after they had been sent, or that reached nobody: which front ends, and how.
        self.broken: list[str] = []
        self._turns = itertools.count()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        plain = {"interface": "asgi3", "lifespan": "off", "proxy_headers": False, "server_header": False}
        config = uvicorn.Config(self._app, log_level="critical", timeout_graceful_shutdown=1, **plain)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._listener],), name="proxy", daemon=True)
        self._thread.start()
        until(lambda: self._server.started, "the proxy listens")

    @property
    def address(self) -> str:
        """Where clients reach it."""
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    @property
    def mcp(self) -> str:
        """The URL for MCP clients."""
        return f"http://{self.address}/mcp"

    def close(self) -> None:
        """Ends it with every request under way."""
        self._server.should_exit = True
        self._thread.join(BOUND)
        assert not self._thread.is_alive(), "the proxy does not end"
        self._listener.close()

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _body(receive)
        async with anyio.create_task_group() as tasks, AsyncExitStack() as stack:
            # A client that hangs up ends its request at the front end, too: that is how modern calls are cancelled.
            tasks.start_soon(_cancel_at_disconnect, receive, tasks.cancel_scope)
            answer = await self._ask(stack, scope, body)
            await (_pass_on(answer, send) if answer else _bad_gateway(send))
            tasks.cancel_scope.cancel()

    async def _ask(self, stack: AsyncExitStack, scope: Scope, body: bytes) -> httpx2.Response | None:
        """The answer of the first front end that can be reached; none when that one breaks off before it has begun."""
        turn, unreached = next(self._turns), list[str]()
        for offset in range(len(self.upstreams)):
            upstream = self.upstreams[(turn + offset) % len(self.upstreams)]
            client = await stack.enter_async_context(_client())
            url = f"http://{upstream}{scope['path']}"
            headers = [(name, value) for name, value in scope["headers"] if name not in HOP_BY_HOP]
            request = client.build_request(scope["method"], url, headers=headers, content=body or None)
            try:
                answer = await client.send(request, stream=True)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                unreached.append(f"{upstream}: {error!r}")
                continue
            except httpx2.TransportError as error:
                self.broken.append(f"{scope['method']} to {upstream}: {error!r}")
                return None
            self.served[upstream] += 1
            return await stack.enter_async_context(_closing(answer))
        self.broken.append(f"{scope['method']} to nobody: {unreached}")
        return None


def _client() -> httpx2.AsyncClient:
    """For one request. Without certificates, which nobody looks at: to read them takes 30 ms, in which the proxy does nothing
    else, and twenty clients at work would have it give up connections that were made long ago."""
    return httpx2.AsyncClient(timeout=PATIENCE, trust_env=False, verify=False)


@asynccontextmanager
async def _closing(answer: httpx2.Response) -> AsyncIterator[httpx2.Response]:
    """An answer that is closed at the end, read or not."""
    try:
        yield answer
    finally:
        await answer.aclose()


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _cancel_at_disconnect(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _pass_on(answer: httpx2.Response, send: Send) -> None:
    """Piece by piece, as it comes. When it breaks off, so does what the client gets."""
    headers = [(name.lower(), value) for name, value in answer.headers.raw if name.lower() not in HOP_BY_HOP]
    await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
    async for piece in answer.aiter_raw():
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _bad_gateway(send: Send) -> None:
    await send({"type": "http.response.start", "status": 502, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})

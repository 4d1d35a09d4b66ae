#!/usr/bin/env python3
"""Record Playwright MCP's `browser_snapshot` of every page in this folder.

Usage: record.py [page.html ...]          (all pages when none is named)

Serves the folder on loopback, drives one Playwright MCP over stdio, and writes
`<page>.snapshot.yml` beside each page. Needs the `mcp` package and node;
PEER_CLI and PEER_CHROMIUM say where the peer and its browser are.
"""

import asyncio
import functools
import http.server
import os
import pathlib
import re
import sys
import threading

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

HERE = pathlib.Path(__file__).resolve().parent
CLI = os.environ.get("PEER_CLI", "/tmp/peer/node_modules/@playwright/mcp/cli.js")
CHROMIUM = os.environ.get("PEER_CHROMIUM", "/usr/lib/chromium/chromium-headless-shell")
FENCE = re.compile(r"```yaml\n(.*?)\n?```", re.S)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def serve():
    handler = functools.partial(Quiet, directory=str(HERE))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def renumber(text):
    """Refs in order of appearance per frame: the peer also counts elements it does not show, and earlier pages."""
    frames, elements = {}, {}

    def rename(found):
        frame = frames.setdefault(found[1], f"f{len(frames)}" if frames else "")
        seen = elements.setdefault(frame, {})
        return f"[ref={frame}e{seen.setdefault(found[2], len(seen) + 1)}]"

    return re.sub(r"\[ref=(f\d+)?e(\d+)\]", rename, text)


def snapshot_of(result, page):
    text = "".join(part.text for part in result.content if part.type == "text")
    found = FENCE.search(text)
    if not found:
        raise SystemExit(f"{page}: no snapshot in the reply:\n{text}")
    return renumber(found.group(1))


async def record(pages):
    server = serve()
    peer = StdioServerParameters(
        command="node",
        args=[CLI, "--headless", "--isolated", "--no-sandbox", "--executable-path", CHROMIUM],
    )
    async with stdio_client(peer) as (read, write), ClientSession(read, write) as client:
        await client.initialize()
        for page in pages:
            url = f"http://127.0.0.1:{server.server_address[1]}/{page.name}"
            await client.call_tool("browser_navigate", {"url": url})
            result = await client.call_tool("browser_snapshot", {})
            text = snapshot_of(result, page.name)
            page.with_suffix(".snapshot.yml").write_text(text + "\n", encoding="utf-8")
            print(f"{page.name}: {text.count(chr(10)) + 1} lines")
        await client.call_tool("browser_close", {})
    server.shutdown()


if __name__ == "__main__":
    named = [HERE / name for name in sys.argv[1:]]
    asyncio.run(record(named or sorted(HERE.glob("*.html"))))

"""`browserfleet stdio` as a child of an editor: it ends with its input, and its output is the protocol's alone.

Written by hand, line by line, because a client library would hide when and how the process ends.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from pages import Pages, wait_at
from programs import Place, Program
from waiting import until

#: The Python client closes the input, asks after two seconds and kills after four; others are no more patient. Who is
#: killed leaves profiles behind.
EDITORS_WAIT = 4.0


class Editor:
    """A client that writes and reads lines."""

    def __init__(self, place: Place) -> None:
        self.program = Program("browserfleet", ["stdio"], place)
        self._last = 0

    def send(self, method: str, params: dict[str, Any], **fields: Any) -> None:
        """Writes a message."""
        pipe = self.program.process.stdin
        assert pipe
        message = {"jsonrpc": "2.0", "method": method, "params": params} | fields
        pipe.write(json.dumps(message).encode() + b"\n")
        pipe.flush()

    def request(self, method: str, **params: Any) -> int:
        """Asks for something, and answers the request's id."""
        self._last += 1
        self.send(method, params, id=self._last)
        return self._last

    def answer(self, request: int) -> Any:
        """Waits for the answer to a request. Whatever else is on the line must be JSON."""
        pipe = self.program.process.stdout
        assert pipe
        for line in iter(pipe.readline, b""):
            message = json.loads(line)
            if message.get("id") == request:
                return message["result"]
        raise AssertionError(f"the output has ended: {self.program.place.read_log()}")

    def initialize(self) -> None:
        """Shakes hands."""
        client = {"name": "editor", "version": "1"}
        self.answer(self.request("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=client))
        self.send("notifications/initialized", {})

    def call(self, tool: str, **arguments: Any) -> int:
        """Starts a call."""
        return self.request("tools/call", name=tool, arguments=arguments)

    def hang_up(self) -> None:
        """Ends the program's input, as an editor does that is closed."""
        assert self.program.process.stdin
        self.program.process.stdin.close()


@pytest.fixture
def editor(place: Place) -> Iterator[Editor]:
    """An editor that has just started the program."""
    editor = Editor(place)
    yield editor
    editor.program.destroy()


def test_the_end_of_the_input_is_the_end(editor: Editor, place: Place, pages: Pages) -> None:
    """With a page open."""
    editor.initialize()
    assert not editor.answer(editor.call("browser_navigate", url=pages.at("/"))).get("isError")
    assert len(editor.program.browsers()) == 1
    editor.hang_up()
    assert editor.program.wait(EDITORS_WAIT) == 0, place.read_log()
    place.assert_as_before()


def test_the_end_of_the_input_ends_a_running_call(editor: Editor, place: Place, pages: Pages) -> None:
    """Nobody is left to read its answer."""
    gate = "/gate/hang-up"
    editor.initialize()
    editor.answer(editor.call("browser_navigate", url=pages.at("/")))
    editor.call("browser_evaluate", function=wait_at(gate))
    until(lambda: pages.visits(gate), "the call runs")
    editor.hang_up()
    assert editor.program.wait(EDITORS_WAIT) == 0, place.read_log()
    place.assert_as_before()


def test_no_browser_is_started_before_it_is_needed(editor: Editor, place: Place) -> None:
    """Editors start every server they know, and may never call it."""
    editor.initialize()
    assert editor.answer(editor.request("tools/list"))["tools"]
    assert editor.program.browsers() == []
    editor.hang_up()
    assert editor.program.wait(EDITORS_WAIT) == 0, place.read_log()
    place.assert_as_before()


def test_an_input_that_ends_before_the_handshake_is_no_error(editor: Editor, place: Place) -> None:
    """An editor may change its mind."""
    editor.hang_up()
    assert editor.program.wait(EDITORS_WAIT) == 0, place.read_log()
    place.assert_as_before()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_signals_end_it_as_well(number: signal.Signals, editor: Editor, pages: Pages) -> None:
    """The input is still open."""
    editor.initialize()
    editor.answer(editor.call("browser_navigate", url=pages.at("/")))
    editor.program.stop(number)

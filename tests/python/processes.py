"""The process table, as far as it is ours.

The test process is a *subreaper*: what outlives the program that started it becomes a child of the tests and not of
PID 1. So whatever a program leaves behind is found, however it detached itself, and nobody else's process is touched.
"""

from __future__ import annotations

import ctypes
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from waiting import until

PR_SET_CHILD_SUBREAPER = 36

#: What the kernel shows of the names of programs that tests start; every other child of the tests is an orphan.
PROGRAMS = ("browserfleet", "pool-daemon", "mcp-frontend", "redis-server", "node")


@dataclass(frozen=True)
class Process:
    """A line of `/proc/<pid>/stat`; with the start time it names a process for good."""

    pid: int
    name: str
    state: str
    parent: int
    started: int

    @property
    def is_dead(self) -> bool:
        """Dead, but not reaped yet."""
        return self.state in "ZX"

    def command_line(self) -> list[str]:
        """Its arguments; none when it is gone."""
        return _words(self.pid, "cmdline")

    def environment(self) -> list[str]:
        """What it was started with; none when it is gone."""
        return _words(self.pid, "environ")

    def kill(self) -> None:
        """Kills it, unless the pid is somebody else's by now."""
        self.send(signal.SIGKILL)

    def send(self, number: signal.Signals) -> None:
        """Sends a signal, unless the pid is somebody else's by now."""
        now = _stat(str(self.pid))
        if now and now.started == self.started:
            os.kill(self.pid, number)


def become_subreaper() -> None:
    """Makes orphans of our programs our children."""
    result = ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    assert result == 0, os.strerror(ctypes.get_errno())


def table() -> list[Process]:
    """Every process of the machine."""
    found = (_stat(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [process for process in found if process]


def descendants(pid: int) -> list[Process]:
    """The children of a process, their children, and so on."""
    everybody = table()
    family, size = {pid}, 0
    while len(family) != size:
        size = len(family)
        family |= {process.pid for process in everybody if process.parent in family}
    return [process for process in everybody if process.pid in family and process.pid != pid]


def orphans() -> list[Process]:
    """What ended programs have left behind, dead ones that nobody reaped included."""
    children = [process for process in table() if process.parent == os.getpid()]
    heads = [process for process in children if not process.name.startswith(PROGRAMS)]
    return heads + [below for head in heads for below in descendants(head.pid)]


def reap_orphans() -> list[Process]:
    """Buries the dead among the orphans, as PID 1 would, and answers who is left."""
    for orphan in orphans():
        if orphan.is_dead and orphan.parent == os.getpid():
            os.waitpid(orphan.pid, os.WNOHANG)
    return orphans()


def end_orphans() -> None:
    """Leaves nobody, also after a failed test."""
    for orphan in orphans():
        orphan.kill()
    until(lambda: not reap_orphans(), "orphans can be killed")


def browsers(program: int) -> list[Process]:
    """The main processes of a program's browsers."""
    children = [process for process in table() if process.parent == program]
    return [process for process in children if "--remote-debugging-pipe" in process.command_line()]


def with_state_in(directory: Path) -> list[Process]:
    """Our children that were started with this state directory."""
    children = [process for process in table() if process.parent == os.getpid()]
    return [process for process in children if any(word.endswith(f"={directory}") for word in process.environment())]


def _stat(pid: str) -> Process | None:
    try:
        line = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name is in brackets and may contain anything, brackets too.
    name, rest = line[line.index("(") + 1 : line.rindex(")")], line[line.rindex(")") + 2 :].split()
    return Process(pid=int(pid), name=name, state=rest[0], parent=int(rest[1]), started=int(rest[19]))


def _words(pid: int, file: str) -> list[str]:
    try:
        return Path(f"/proc/{pid}/{file}").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []

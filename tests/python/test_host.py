"""A machine that is short of something: the launch fails with a message, and everything else goes on."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio.to_thread
import pytest

import processes
from clients import Connector
from pages import Pages
from programs import Place, Program, serve
from test_settings import CONFIG, run
from waiting import BOUND, eventually, until

MIB = 1 << 20

#: A PID 1 that waits for its one child and reaps nobody else, as in many containers.
INDIFFERENT = "import subprocess, sys; sys.exit(subprocess.Popen(sys.argv[1:]).wait())"

#: Without root the namespaces come with a user namespace, in which everybody is who they were.
AS_OURSELVES = [] if os.geteuid() == 0 else ["--map-current-user"]


def own_processes() -> list[str]:
    """Runs a program as the child of such a PID 1."""
    namespace = ["unshare", *AS_OURSELVES, "--pid", "--fork", "--kill-child", "--mount-proc"]
    return [*namespace, sys.executable, "-c", INDIFFERENT]


def own_disk(place: Place, size: int) -> list[str]:
    """Runs a program whose state directory is a small disk of its own."""
    mount = f'mount -t tmpfs -o size={size},mode=711 none "{place.directory}" && exec "$@"'
    if os.geteuid() == 0:
        return ["unshare", "--mount", "sh", "-c", mount, "sh"]
    again = ["unshare", f"--map-user={os.getuid()}", f"--map-group={os.getgid()}"]
    return ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh", *again]


@contextmanager
def started(place: Place, within: list[str]) -> Iterator[Program]:
    """`browserfleet serve` in surroundings of its own."""
    program = serve(place, "--max-browsers", "1", within=within)
    try:
        yield program
    finally:
        program.destroy()


#: Somebody who has no other processes: the kernel counts them by user, and never refuses root one.
LONELY = 54_321

#: Runs a program as that user, who may not be allowed to reach where it lies.
AS_LONELY = f"""
import os, sys
program = os.open(sys.argv[1], os.O_RDONLY)
os.setgroups([]); os.setgid({LONELY}); os.setuid({LONELY})
os.execv(f"/proc/self/fd/{{program}}", sys.argv[1:])
"""


def as_lonely(place: Place) -> list[str]:
    """Runs a program as a user of its own. Without root it stays whose it is."""
    if os.geteuid() != 0:
        return []
    os.chown(place.directory, LONELY, LONELY)
    return [sys.executable, "-c", AS_LONELY]


def tasks_of_its_user(pid: int) -> int:
    """How many processes and threads there are of a process's user."""
    user = Path(f"/proc/{pid}").stat().st_uid
    count = 0
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdigit() and process.stat().st_uid == user:
                count += len(list((process / "task").iterdir()))
    return count


@contextmanager
def limited(pid: int, limit: str, most: int) -> Iterator[None]:
    """Lowers a limit of a running program for the block."""

    def prlimit(*words: str) -> str:
        # As its own user: nobody else may, without a right that root need not have.
        owner = Path(f"/proc/{pid}").stat()
        command = ["prlimit", f"--pid={pid}", *words]
        done = subprocess.run(
            command, user=owner.st_uid, group=owner.st_gid, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    before = prlimit(f"--{limit}", "--output=SOFT", "--noheadings")
    prlimit(f"--{limit}={most}:")
    try:
        yield
    finally:
        prlimit(f"--{limit}={before}:")


async def test_the_dead_are_buried_without_help_from_pid_1(place: Place, pages: Pages) -> None:
    """Helpers of a killed browser are nobody's children any more; they must not pile up until the program ends."""
    with started(place, own_processes()) as program:

        def family() -> list[processes.Process]:
            return processes.descendants(program.pid)

        [daemon] = [process for process in family() if process.name == "browserfleet"]
        async with Connector(program.mcp)("http-modern") as agent:
            for _ in range(3):
                await agent.ok("browser_navigate", url=pages.at("/"))
                browsers = processes.browsers(daemon.pid)
                assert browsers
                for browser in browsers:
                    browser.kill()
                # Its helpers end by themselves a moment later, one after the other.
                await eventually(
                    lambda: not {browser.pid for browser in browsers} & {process.pid for process in family()}
                    and not [process for process in family() if process.is_dead],
                    f"nobody is left dead: {place.read_log()}",
                )
                await agent.call("browser_snapshot")
            daemon.send(signal.SIGTERM)
            assert await anyio.to_thread.run_sync(program.wait) == 0, place.read_log()
            agent.session = None
    place.assert_as_before()


def open_files(pid: int) -> int:
    """How many descriptors a program has."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.mark.parametrize(
    ("limit", "most", "within"),
    [
        # The client's connection may be a new one; a launch needs six.
        ("nofile", lambda pid: open_files(pid) + 3, lambda _: []),
        # Inherited by the browser, which needs threads.
        ("nproc", lambda _: 3, lambda _: []),
        # The program itself can make no process and no thread; or one, which helps little.
        ("nproc", tasks_of_its_user, as_lonely),
        ("nproc", lambda pid: tasks_of_its_user(pid) + 1, as_lonely),
    ],
    ids=["files", "processes", "threads", "threads but one"],
)
async def test_what_runs_out_costs_a_launch(
    limit: str,
    most: Callable[[int], int],
    within: Callable[[Place], list[str]],
    place: Place,
    pages: Pages,
) -> None:
    """The message says what failed; the program lives, and works again when there is enough."""
    place.environment |= {"BROWSERFLEET_POOL__MIN_WARM": "0", "BROWSERFLEET_LEASE__WAIT": "5s"}
    with started(place, within(place)) as program:
        async with Connector(program.mcp)("http-modern") as agent:
            # The first connection, and whatever else is opened once.
            await agent.ok("session_list")
            with limited(program.pid, limit, most(program.pid)):
                failed = await agent.call("browser_navigate", url=pages.at("/"))
                assert failed.code == "browser_gone", failed
                assert "did not start" in failed.text or "cannot" in failed.text or "ended at once" in failed.text
                # When that goes on, nobody is sent here any more.
                with anyio.fail_after(2 * BOUND):
                    while program.is_ready():
                        assert (await agent.call("browser_navigate", url=pages.at("/"))).code == "browser_gone"
            assert program.get("/health")["status"] == "ok"
            await eventually(lambda: not program.browsers(), "nothing of the attempt is left")

            # The pool finds out by itself; it waits longer after each failed launch.
            await eventually(program.is_ready, f"it is ready again: {place.read_log()}", 2 * BOUND)
            await agent.ok("browser_navigate", url=pages.at("/"))
        program.stop()


async def test_a_full_disk_costs_a_launch(place: Place, pages: Pages) -> None:
    """With little left a browser would fail in ways that look like the page's fault: none is started."""
    place.environment |= {"BROWSERFLEET_POOL__MIN_WARM": "0", "BROWSERFLEET_LEASE__WAIT": "5s"}
    with started(place, own_disk(place, 600 * MIB)) as program:
        filler = Path(f"/proc/{program.pid}/root{place.directory}/filler")
        async with Connector(program.mcp)("http-modern") as agent:
            with filler.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, 150 * MIB)
            failed = await agent.call("browser_navigate", url=pages.at("/"))
            assert failed.code == "browser_gone" and "are left on the disk" in failed.text, failed
            assert not program.browsers() and program.get("/health")["status"] == "ok"
            filler.unlink()
            for _ in range(20):
                if (await agent.call("browser_navigate", url=pages.at("/"))).code == "ok":
                    break
                await anyio.sleep(0.5)
            else:
                pytest.fail(f"it does not work again: {place.read_log()}")
        program.stop()


def test_a_small_disk_is_refused_at_the_start(place: Place) -> None:
    """With the size that is needed."""
    refused = run(place, "browserfleet", "serve", within=own_disk(place, 64 * MIB))
    assert refused.returncode == CONFIG, refused
    assert "browsers start with 512 MiB only" in refused.stderr
    until(lambda: not processes.orphans(), "nothing was started")

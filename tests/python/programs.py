"""Our programs, run as their users run them: with a command line, an environment and signals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import processes
from waiting import BOUND, until

BINARIES = Path(__file__).resolve().parents[2] / "target" / "debug"

#: How much of a program's log a failure shows.
LOG_SHOWN = 4000


def binary(name: str) -> str:
    """The path of a program; `BROWSERFLEET_BIN` names another build of the one-process program."""
    if name == "browserfleet":
        return os.environ.get("BROWSERFLEET_BIN", str(BINARIES / name))
    return str(BINARIES / name)


def free_address() -> str:
    """A loopback address nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"


class Place:
    """Where a program keeps its browsers' profiles: a directory of its own, and the environment that says so. Settings
    are as in the documentation, without the prefix: `{"TOOL__SCRIPT_TIMEOUT": "2s"}`.

    The path is short because Chromium makes sockets below it, and passable because browsers run as users of their own.
    """

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="bf", dir="/tmp"))
        self.directory.chmod(0o711)
        self.log = self.directory.with_suffix(".log")
        self.environment = _without_settings()
        self.environment |= {f"BROWSERFLEET_{key}": value for key, value in (settings or {}).items()}
        self.environment["BROWSERFLEET_BROWSER__STATE_DIR"] = str(self.directory)

    def profiles(self) -> list[str]:
        """What lies in the directory, its own lock aside."""
        return sorted(path.name for path in self.directory.iterdir() if path.name != ".lock")

    def read_log(self) -> str:
        """The end of what programs wrote on standard error."""
        return self.log.read_text(errors="replace")[-LOG_SHOWN:] if self.log.exists() else "nothing"

    def assert_as_before(self) -> None:
        """Nothing is left: no process, not even a dead one, and no profile."""
        left = processes.orphans() + processes.with_state_in(self.directory)
        assert left == [], f"processes are left: {left}\n{self.read_log()}"
        assert self.profiles() == [], f"profiles are left: {self.profiles()}\n{self.read_log()}"

    def remove(self) -> None:
        """Removes the directory and the log, and whoever is still at work in it."""
        for process in processes.with_state_in(self.directory):
            process.kill()
        processes.end_orphans()
        shutil.rmtree(self.directory, ignore_errors=True)
        self.log.unlink(missing_ok=True)


class Program:
    """A running program."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        place: Place,
        address: str = "",
        ready_at: str = "",
        within: Sequence[str] = (),
        trust: ssl.SSLContext | None = None,
    ) -> None:
        """`within` is a command that runs the program in surroundings of its own, such as other namespaces; one that speaks
        TLS is trusted by `trust`."""
        self.place = place
        self.trust = trust
        self.address = address
        with place.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*within, binary(name), *arguments],
                env=place.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        if ready_at:
            until(lambda: self._answers_ready(ready_at), f"{name} is ready: {place.read_log()}")

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    @property
    def mcp(self) -> str:
        """The URL for MCP clients."""
        return f"{self.url}/mcp"

    @property
    def url(self) -> str:
        """Where it answers over HTTP."""
        return f"{'https' if self.trust else 'http'}://{self.address}"

    def browsers(self) -> list[processes.Process]:
        """The main processes of its browsers."""
        return processes.browsers(self.pid)

    def get(self, path: str) -> Any:
        """Asks for JSON over HTTP."""
        return get_json(f"{self.url}{path}", self.trust)

    def text(self, path: str) -> str:
        """Asks for a text over HTTP."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=BOUND, context=self.trust) as answer:
            return answer.read().decode()

    def metric(self, name: str) -> int:
        """A number of `/metrics`, by its name with its label."""
        [line] = [line for line in self.text("/metrics").splitlines() if line.startswith(f"{name} ")]
        return int(line.rsplit(" ", 1)[1])

    @contextmanager
    def growing_at_most(self, most: int) -> Iterator[None]:
        """At no moment has it more memory than so many bytes beyond what it had at the beginning."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        before = self._peak()
        yield
        assert self._peak() - before < most, f"{before} bytes, then {self._peak()}"

    def _peak(self) -> int:
        """The most bytes it has had since its peak was last reset."""
        [line] = [line for line in Path(f"/proc/{self.pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) << 10

    def send(self, number: signal.Signals) -> None:
        """Sends a signal."""
        self.process.send_signal(number)

    def wait(self, within: float = BOUND) -> int:
        """Waits for the end and answers the exit code."""
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end within {within} s: {self.place.read_log()}") from None

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ends it as an operator would, and looks at what it leaves: nothing."""
        self.send(number)
        assert self.wait() == 0, self.place.read_log()
        self.place.assert_as_before()

    def destroy(self) -> None:
        """Ends it by force, with its browsers, if it still runs: for the end of a failed test."""
        if self.process.poll() is None:
            family = processes.descendants(self.pid)
            self.process.kill()
            self.process.wait()
            for process in family:
                process.kill()
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                stream.close()

    def is_ready(self) -> bool:
        """Whether it wants new work."""
        return self._answers_ready(self.address)

    def _answers_ready(self, address: str) -> bool:
        assert self.process.poll() is None, self.place.read_log()
        try:
            scheme = "https" if self.trust else "http"
            return get_json(f"{scheme}://{address}/ready", self.trust) is not None
        except (urllib.error.URLError, ConnectionError):
            return False


class Launcher:
    """Starts `browserfleet serve` as often as a test wants: `launch("--max-browsers=1", TOOL__SCRIPT_TIMEOUT="2s")`."""

    def __init__(self) -> None:
        self.places: list[Place] = []
        self._programs: list[Program] = []

    def __call__(self, *flags: str, **settings: str) -> Program:
        """Flags and settings in, running program out."""
        place = Place(settings)
        self.places.append(place)
        program = serve(place, *flags)
        self._programs.append(program)
        return program

    def stop(self) -> None:
        """Ends what still runs, as it should end."""
        for program in self._programs:
            if program.process.poll() is None:
                program.stop()

    def destroy(self) -> None:
        """Leaves nothing, also after a failed test."""
        for program in self._programs:
            program.destroy()
        for place in self.places:
            place.remove()


class Daemon(Program):
    """A daemon, told by gRPC what to do."""

    def __init__(self, place: Place) -> None:
        self.grpc, admin = free_address(), free_address()
        super().__init__("pool-daemon", ["--listen", self.grpc, "--admin-listen", admin], place, admin, ready_at=admin)


@contextmanager
def running_daemon(place: Place) -> Iterator[Daemon]:
    """A daemon that ends as it should."""
    daemon = Daemon(place)
    try:
        yield daemon
        daemon.stop()
    finally:
        daemon.destroy()


def serve(place: Place, *flags: str, within: Sequence[str] = (), trust: ssl.SSLContext | None = None) -> Program:
    """Starts `browserfleet serve` and waits until it can serve."""
    address = free_address()
    arguments = ["serve", "--listen", address, *flags]
    return Program("browserfleet", arguments, place, address, ready_at=address, within=within, trust=trust)


def get_json(url: str, trust: ssl.SSLContext | None = None) -> Any:
    """A resource that must be there."""
    with urllib.request.urlopen(url, timeout=BOUND, context=trust) as answer:
        return json.load(answer)


def _without_settings() -> dict[str, str]:
    """Our environment without settings somebody made for other runs of the programs."""
    return {name: value for name, value in os.environ.items() if not name.startswith("BROWSERFLEET_")}

"""A redis-server of a test's own, on a free port; what it keeps is gone with it."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile

from programs import free_address
from waiting import BOUND, until


class Redis:
    """The server, and what there is in it."""

    def __init__(self) -> None:
        self.address = free_address()
        self._directory = tempfile.mkdtemp(prefix="bfredis", dir="/tmp")
        self._start()

    @property
    def url(self) -> str:
        """What programs are told."""
        return f"redis://{self.address}"

    def ask(self, *words: str) -> list[str]:
        """The lines of a command's answer."""
        _, port = self.address.split(":")
        asked = ["redis-cli", "-p", port, *words]
        return subprocess.run(asked, check=True, capture_output=True, text=True, timeout=BOUND).stdout.splitlines()

    def keys(self) -> set[str]:
        """The names of all keys, without those that remember for a minute that a session was ended."""
        return {key for key in self.ask("KEYS", "*") if key and not key.endswith(":ended")}

    def checkpoints(self) -> dict[str, str]:
        """The digest of each checkpoint, which is another one whenever it has been written."""
        script = """local told = {} for _, key in ipairs(redis.call('KEYS', '*:check')) do
          told[#told + 1] = key .. ' ' .. redis.sha1hex(redis.call('HGET', key, 'sealed')) end return told"""
        return dict(line.rsplit(" ", 1) for line in self.ask("EVAL", script, "0") if line)

    def freeze(self) -> None:
        """It answers nothing any more, and its connections stay."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on where it was."""
        self._process.send_signal(signal.SIGCONT)

    def restart_empty(self) -> None:
        """Another one in its place, which has never heard of anything."""
        self._kill()
        self._start()

    def close(self) -> None:
        """Ends it."""
        self._kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _start(self) -> None:
        _, port = self.address.split(":")
        keep_nothing = ["--save", "", "--appendonly", "no", "--dir", self._directory]
        self._process = subprocess.Popen(
            ["redis-server", "--bind", "127.0.0.1", "--port", port, *keep_nothing],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(self._listens, "redis-server listens")

    def _listens(self) -> bool:
        assert self._process.poll() is None, "redis-server has ended: its port may have been taken meanwhile"
        host, port = self.address.split(":")
        try:
            socket.create_connection((host, int(port)), timeout=BOUND).close()
        except ConnectionError:
            return False
        return True

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()

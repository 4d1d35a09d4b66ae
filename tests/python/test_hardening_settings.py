"""Settings that cannot be meant: `docs/hardening.md`, rows C. All of them are told at once, and nothing is started."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from programs import Place, binary

CONFIG = 78
PROGRAMS = {"browserfleet": ["serve"], "pool-daemon": [], "mcp-frontend": []}

#: What a canary says that must never be shown.
CANARY = "canary-0123456789-canary-0123456789"

#: A setting, its value, and words of the line that refuses it. The program is the first that knows it.
WRONG: list[tuple[str, str, str, str]] = [
    # Names, types, units, ranges.
    ("browserfleet", "POOL__MAX_BROWSER", "3", "did you mean pool.max_browsers?"),
    ("browserfleet", "POOL", "3", "no such setting"),
    ("browserfleet", "HTTP__IDLE_TIMEOUT", "30", "unit"),
    ("browserfleet", "HTTP__IDLE_TIMEOUT", "-30s", "unit"),
    ("browserfleet", "HTTP__IDLE_TIMEOUT", "99999999999999999999s", "unit"),
    ("browserfleet", "HTTP__IDLE_TIMEOUT", "true", "unit"),
    ("browserfleet", "POOL__MAX_BROWSERS", "0", "from 1 to 1000"),
    ("browserfleet", "POOL__MAX_BROWSERS", "-1", "from 1 to 1000"),
    ("browserfleet", "POOL__MAX_BROWSERS", "1.5", "from 1 to 1000"),
    ("browserfleet", "POOL__MAX_BROWSERS", "many", "from 1 to 1000"),
    ("browserfleet", "POOL__MAX_BROWSERS", "99999999999999999999999", "from 1 to 1000"),
    ("browserfleet", "HTTP__MAX_BODY", "1MiB", "a whole number"),
    ("browserfleet", "BROWSER__MEMORY_LIMIT", "1000", "512MiB"),
    ("browserfleet", "EGRESS__NETWORK", "everything", "local, public"),
    ("browserfleet", "EGRESS__ALLOW", "http://", "egress.allow"),
    ("browserfleet", "HTTP__LISTEN", "localhost:8931", "an IP address and a port"),
    ("browserfleet", "TOOLS__CAPS", "everything", "tools.caps"),
    # One that contradicts another.
    ("browserfleet", "POOL__MIN_WARM", "900", "is more than pool.max_browsers"),
    ("browserfleet", "SESSION__MAX_LIFETIME", "1m", "session.idle_ttl is longer than session.max_lifetime"),
    ("browserfleet", "CALL__TIMEOUT", "20s", "call.queue_wait leaves no time"),
    ("mcp-frontend", "STORE__CONNECT_TIMEOUT", "20s", "store.connect_timeout is longer"),
    # Who gets in.
    ("mcp-frontend", "HTTP__LISTEN", "0.0.0.0:0", "clients need keys"),
    ("mcp-frontend", "HTTP__LISTEN", "[::]:0", "http.allowed_hosts is needed"),
    ("mcp-frontend", "HTTP__ALLOWED_ORIGINS", "*", "is no origin"),
    ("mcp-frontend", "HTTP__ALLOWED_ORIGINS", "https://user@app.example", "is no origin"),
    ("mcp-frontend", "HTTP__PUBLIC_URL", "javascript:alert(1)", "http.public_url"),
    ("pool-daemon", "DAEMON__LISTEN", "0.0.0.0:0", "front ends need a secret"),
    ("pool-daemon", "DAEMON__ADMIN_LISTEN", "0.0.0.0:0", "needs a token"),
    # Where the store is.
    ("mcp-frontend", "STORE__URL", f"http://user:{CANARY}@localhost", "store.url"),
    ("mcp-frontend", "STORE__URL", f"rediss://:{CANARY}@a,b", "hosts are allowed"),
    ("mcp-frontend", "STORE__URL", f"redis://:{CANARY}@", "store.url"),
    ("mcp-frontend", "STORE__PREFIX", "a:{b}*", "store.prefix"),
    # Chromium's own words. Each would undo a promise.
    *(
        ("browserfleet", "BROWSER__ARGS", flag, "is refused")
        for flag in (
            "--remote-debugging-port=9222", "--remote-debugging-address=0.0.0.0", "-no-sandbox", "--No-Sandbox",
            "--disable-web-security", "--proxy-bypass-list=*", "--proxy-server=http://x:1", "--user-data-dir=/tmp/x",
            "--host-resolver-rules=MAP * 127.0.0.1", "--renderer-cmd-prefix=xterm", "--load-extension=/x",
            "--disable-features=NetworkServiceInProcess2",
        )
    ),
    ("browserfleet", "BROWSER__ARGS", "xterm", "is not a flag"),
    ("browserfleet", "BROWSER__CHROMIUM", "/usr/bin/env", "does not tell its version"),
    ("browserfleet", "BROWSER__CHROMIUM", "/etc/passwd", "browser.chromium"),
    ("browserfleet", "BROWSER__CHROMIUM", "/", "browser.chromium"),
]  # fmt: skip

#: Every setting that names a file of secrets, with the program that reads it.
SECRET_FILES = {
    "AUTH__KEYS_FILE": "mcp-frontend",
    "SECRETS__FILE": "mcp-frontend",
    "STORE__SECRET_FILE": "mcp-frontend",
    "GRPC__SECRET_FILE": "pool-daemon",
    "GRPC__OPERATOR_TOKEN_FILE": "pool-daemon",
}


def refused(place: Place, program: str, **settings: str) -> list[str]:
    """Starts a program that must not start, and answers what it says."""
    environment = place.environment | {f"BROWSERFLEET_{key}": value for key, value in settings.items()}
    command = [binary(program), *PROGRAMS[program]]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == CONFIG and ended.stdout == "", ended
    assert CANARY not in ended.stderr, "no secret is shown"
    assert place.profiles() == []
    return ended.stderr.splitlines()


@pytest.mark.parametrize(("program", "setting", "value", "words"), WRONG, ids=lambda word: str(word)[:30])
def test_a_setting_that_cannot_be_meant_is_refused(program: str, setting: str, value: str, words: str, place: Place) -> None:
    """The line names the setting and what is allowed."""
    key = setting.lower().replace("__", ".")
    lines = refused(place, program, **{setting: value})
    assert any(key.split(".")[-1] in line and words in line for line in lines), lines


def test_all_that_is_wrong_is_told_at_once(place: Place) -> None:
    """As many lines as there are settings that cannot be meant."""
    values = {setting: value for program, setting, value, _ in WRONG if program == "browserfleet" and setting != "POOL"}
    lines = refused(place, "browserfleet", **values)
    for setting in values:
        assert any(setting.lower().replace("__", ".") in line for line in lines), (setting, lines)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[pool\n", "TOML"),
        ("[pool]\nmax_browsers = 1\nmax_browsers = 2\n", "duplicate key"),
        ("[pool]\nmax_browsers = 1\n[pool]\n", "duplicate key"),
        ("\0", "TOML"),
        ("a = " + "[" * 10_000 + "]" * 10_000, "TOML"),
    ],
    ids=["broken", "a key twice", "a table twice", "zero byte", "depth 10,000"],
)
def test_a_file_that_is_none_is_refused(program: str, text: str, words: str, place: Place, tmp_path: Path) -> None:
    """With the place where it goes wrong."""
    file = tmp_path / "settings.toml"
    file.write_text(text)
    command = [binary(program), *PROGRAMS[program], "--config", str(file)]
    ended = subprocess.run(command, env=place.environment, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == CONFIG and words in ended.stderr, ended


@pytest.mark.parametrize(("setting", "program"), SECRET_FILES.items())
def test_a_file_of_secrets_is_ones_own_or_refused(setting: str, program: str, place: Place, tmp_path: Path) -> None:
    """Missing, empty, no text, too short, for everybody, a directory, or one that never ends."""
    key, file = setting.lower().replace("__", "."), tmp_path / "secret"
    needed = {"GRPC__SECRET_FILE": str(good(tmp_path))} if setting == "GRPC__OPERATOR_TOKEN_FILE" else {}
    needed |= {"STORE__URL": "redis://127.0.0.1:1"} if setting == "STORE__SECRET_FILE" else {}
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)

    def told(path: Path, content: bytes | None = None, mode: int = 0o600) -> str:
        if content is not None:
            path.write_bytes(content)
            path.chmod(mode)
        [line] = [line for line in refused(place, program, **needed, **{setting: str(path)}) if key in line]
        assert str(path) in line
        return line

    assert "no such file" in told(tmp_path / "nowhere")
    assert "not a file" in told(tmp_path)
    assert "not a file" in told(fifo)
    assert "chmod 600" in told(file, CANARY.encode(), 0o644)
    assert "not a text" in told(file, b"\xff\xfe" * 40)
    for content in (b"", b"\n \n", b"short"):
        told(file, content)


def good(directory: Path) -> Path:
    """A file of one good secret. The line end at its end is not part of it."""
    file = directory / "good"
    file.write_text("s" * 64 + "\r\n\n")
    file.chmod(0o600)
    return file

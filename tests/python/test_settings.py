"""Command lines and settings: what is wrong is said at once, completely, and before anything is started."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from programs import Place, Program, binary, free_address
from waiting import until

USAGE, CONFIG = 64, 78
WITHOUT_NAMESPACES = [sys.executable, str(Path(__file__).with_name("without_namespaces.py"))]
PROGRAMS = {"browserfleet": ["serve"], "pool-daemon": [], "mcp-frontend": []}


def run(
    place: Place, program: str, *arguments: str, within: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Runs a program that ends by itself; `within` is a command to run it in."""
    command = [*within, binary(program), *arguments]
    return subprocess.run(command, env=place.environment, capture_output=True, text=True, timeout=30, check=False)


def few_files(most: int) -> list[str]:
    """Lets a program have only so many descriptors."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return ["prlimit", f"--nofile={most}:{hard}"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_and_version_are_no_errors(program: str, place: Place) -> None:
    """And they go to standard output."""
    for flag in ("--help", "--version"):
        asked = run(place, program, flag)
        assert (asked.returncode, asked.stderr) == (0, "") and asked.stdout


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("wrong", [["--nonsense"], ["--listen", "nowhere"], ["superfluous"]], ids=" ".join)
def test_wrong_command_lines(program: str, wrong: list[str], place: Place) -> None:
    """The message names the word that is wrong; nothing has been started."""
    refused = run(place, program, *PROGRAMS[program], *wrong)
    assert refused.returncode == USAGE and wrong[-1] in refused.stderr, refused
    assert refused.stdout == "" and place.profiles() == []


def test_every_wrong_setting_is_reported(place: Place) -> None:
    """With the range that is allowed, or the key that was meant; one start shows them all."""
    place.environment |= {
        "BROWSERFLEET_POOL__MAX_BROWSERS": "0",
        "BROWSERFLEET_TOOL__SCRIPT_TIMEOUT": "30",
        "BROWSERFLEET_SESSION__IDLE_TTL": "1s",
        "BROWSERFLEET_HTTP__MAX_BODIES": "5",
        "BROWSERFLEET_LOG__FORMAT": "poem",
    }
    refused = run(place, "browserfleet", "serve", "--chromium", "/nowhere/chromium")
    assert refused.returncode == CONFIG, refused
    for words in (
        ["pool.max_browsers = 0", "from 1 to 1000"],
        ["tool.script_timeout = 30", "unit"],
        ["session.idle_ttl", "1m to "],
        ["http.max_bodies: no such setting", "http.max_body"],
        ["log.format", "human, json"],
        ["browser.chromium", "/nowhere/chromium"],
    ):
        [line] = [line for line in refused.stderr.splitlines() if words[0] in line]
        assert words[1] in line
    assert place.profiles() == []


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_missing_file_is_a_wrong_setting(program: str, place: Place) -> None:
    """Not a reason to go on with defaults."""
    refused = run(place, program, *PROGRAMS[program], "--config", "/nowhere/browserfleet.toml")
    assert refused.returncode == CONFIG and "/nowhere/browserfleet.toml" in refused.stderr


def test_a_script_instead_of_chromium_is_refused(place: Place) -> None:
    """Debian's wrapper cannot be killed with what it starts."""
    refused = run(place, "browserfleet", "serve", "--chromium", "/usr/bin/chromium-headless-shell")
    assert refused.returncode == CONFIG and "browser.chromium" in refused.stderr


@pytest.mark.parametrize(
    ("program", "setting", "way"),
    [
        ("browserfleet", "http.listen", "auth.keys_file"),
        ("mcp-frontend", "http.listen", "auth.keys_file"),
        ("pool-daemon", "daemon.listen", "grpc.secret_file"),
    ],
)
def test_addresses_for_everybody_need_authentication(program: str, setting: str, way: str, place: Place) -> None:
    """Or somebody who says that it is on purpose."""
    refused = run(place, program, *PROGRAMS[program], "--listen", "0.0.0.0:0")
    [line] = [line for line in refused.stderr.splitlines() if f"{setting} = " in line]
    assert refused.returncode == CONFIG and way in line and "--insecure" in line, refused
    meant = run(place, program, *PROGRAMS[program], "--listen", "0.0.0.0:0", "--insecure", "--config", "/nowhere")
    assert f"{setting} = " not in meant.stderr and "unsafe" not in meant.stderr, meant


def test_flags_win_over_the_environment_and_that_over_the_file(place: Place) -> None:
    """Numbers come by each of the three ways."""
    file = place.directory / "settings.toml"
    file.write_text('[pool]\nmax_browsers = 1\nmin_warm = 1\n[http]\nlisten = "127.0.0.1:1"\n')
    place.environment["BROWSERFLEET_POOL__MAX_BROWSERS"] = "2"
    address = free_address()
    arguments = ["serve", "--config", str(file), "--listen", address, "--max-browsers", "3"]
    program = Program("browserfleet", arguments, place, address, ready_at=address)
    try:
        file.unlink()
        program.stop()
    finally:
        program.destroy()


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_port_in_use_is_named(program: str, place: Place) -> None:
    """Nothing is started before the port is ours."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        more = ["--admin-listen", free_address()] if program == "pool-daemon" else []
        refused = run(place, program, *PROGRAMS[program], "--listen", address, *more)
    assert refused.returncode == 1 and address in refused.stderr, refused
    place.assert_as_before()


@pytest.mark.parametrize(
    ("program", "arguments"), [("browserfleet", ["doctor"]), ("pool-daemon", ["--check"])], ids=["doctor", "check"]
)
def test_a_sound_machine_is_told_so(program: str, arguments: list[str], place: Place) -> None:
    """Every check is shown; a browser was really started, and is gone."""
    more = ["--admin-listen", free_address()] if program == "pool-daemon" else []
    told = run(place, program, *arguments, "--listen", free_address(), *more)
    assert told.returncode == 0, told
    for name in ("chromium", "sandbox", "/dev/shm", "memory", "open files", "tasks", "state directory", "launch"):
        assert [line for line in told.stdout.splitlines() if line.split("  ")[0] in ("ok", "warning") and name in line]
    assert "a page answered after" in told.stdout and "sandbox on" in told.stdout
    assert "0 problems" in told.stdout
    place.assert_as_before()


def test_whoever_runs_is_probed(place: Place) -> None:
    """By the settings that it runs with: the first name it answers to, and loopback when it listens everywhere."""
    address = free_address()
    place.environment["BROWSERFLEET_HTTP__LISTEN"] = f"0.0.0.0:{address.rpartition(':')[2]}"
    place.environment["BROWSERFLEET_HTTP__ALLOWED_HOSTS"] = "fleet.example"
    place.environment["BROWSERFLEET_UNSAFE__INSECURE"] = "true"
    asked = {question: ["probe", question] for question in ("health", "ready")}
    assert all(run(place, "browserfleet", *words).returncode == 1 for words in asked.values()), "nobody is there yet"
    program = Program("browserfleet", ["serve"], place)
    try:
        until(lambda: run(place, "browserfleet", *asked["ready"]).returncode == 0, "it wants work")
        assert run(place, "browserfleet", *asked["health"]).returncode == 0
        assert run(place, "mcp-frontend", "--probe", "ready").returncode == 0, "the same settings lead to the same place"
        place.environment["BROWSERFLEET_HTTP__ALLOWED_HOSTS"] = "other.example"
        refused = run(place, "browserfleet", *asked["health"])
        assert refused.returncode == 1 and "403" in refused.stderr
        program.stop()
    finally:
        program.destroy()


def test_a_front_end_checks_its_settings(place: Place) -> None:
    """Without serving: what is wrong is told as at a start, and a store that is away, which would not keep it from starting."""
    assert run(place, "mcp-frontend", "--check").returncode == 0
    place.environment["BROWSERFLEET_STORE__URL"] = f"redis://{free_address()}"
    away = run(place, "mcp-frontend", "--check")
    assert away.returncode == 1 and "store.url" in away.stderr, away
    place.environment["BROWSERFLEET_SESSION__IDLE_TIME"] = "5m"
    wrong = run(place, "mcp-frontend", "--check")
    assert wrong.returncode == CONFIG and "did you mean session.idle_ttl?" in wrong.stderr, wrong


def test_the_doctor_finds_everything_at_once(place: Place) -> None:
    """What is wrong with the settings, the machine and the port, each with the way to mend it; nothing is started."""
    place.environment["BROWSERFLEET_BROWSER__STATE_DIR"] = "/proc/nowhere"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        wrong = ["--chromium", "/nowhere/chromium", "--listen", address]
        told = run(place, "browserfleet", "doctor", *wrong, within=few_files(100))
    assert told.returncode == 1, told
    problems = [line for line in told.stdout.splitlines() if line.startswith("problem ")]
    for words in ("/nowhere/chromium", "100 are allowed", "/proc/nowhere", address):
        assert [line for line in problems if words in line], told.stdout
    assert told.stdout.count("fix: ") >= len(problems) == 4
    assert "launch" not in told.stdout


@pytest.mark.parametrize("program", ["browserfleet", "pool-daemon"])
def test_a_machine_that_will_not_do_is_refused_at_the_start(program: str, place: Place) -> None:
    """Everything at once, with what to do; before anything is started."""
    place.environment["BROWSERFLEET_BROWSER__STATE_DIR"] = "/proc/nowhere"
    refused = run(place, program, *PROGRAMS[program], within=few_files(100))
    assert refused.returncode == CONFIG, refused
    assert "open files: 100 are allowed" in refused.stderr and "ulimit -n" in refused.stderr
    assert "state directory: " in refused.stderr and "browser.state_dir" in refused.stderr


def test_a_sandbox_that_is_refused_is_told_at_the_start(place: Place) -> None:
    """By a filter of system calls, which no setting of the kernel tells of; unless nobody wants a sandbox."""
    fix = "deploy/seccomp/chromium.json"
    refused = run(place, "pool-daemon", within=WITHOUT_NAMESPACES)
    assert refused.returncode == CONFIG and "sandbox: not possible: " in refused.stderr and fix in refused.stderr, refused
    told = run(place, "browserfleet", "doctor", "--listen", free_address(), within=WITHOUT_NAMESPACES)
    assert told.returncode == 1 and "problem  sandbox " in told.stdout and fix in told.stdout, told
    place.environment["BROWSERFLEET_UNSAFE__NO_SANDBOX"] = "true"
    given_up = run(place, "browserfleet", "doctor", "--listen", free_address(), within=WITHOUT_NAMESPACES)
    assert given_up.returncode == 0 and "warning  sandbox " in given_up.stdout and "sandbox off" in given_up.stdout, given_up

"""The commands of docs/operations.md, as they stand there."""

from __future__ import annotations

import json
import re
import shlex
import subprocess

import pytest

from composed import PAGE, PROJECT, ROOT, Composed
from load import at_work, failures, go_on
from waiting import eventually

GUIDE = (ROOT / "docs" / "operations.md").read_text()
COMMANDS = re.findall(r"^grpcurl .*$", GUIDE, re.MULTILINE)
#: What an answer must have in it.
TELLS = {
    "list": "browserfleet.v1.PoolService",
    "describe": "rpc ListLeases",
    "GetPool": '"maxBrowsers"',
    "ListLeases": '"leaseId"',
    "Check": "SERVING",
    "Drain": "",
}


def run(fleet: Composed, pool: str, command: str) -> str:
    """Runs one, with its variables as the guide says."""
    address = fleet.inspect(pool)["NetworkSettings"]["Networks"][f"{PROJECT}_grpc"]["IPAddress"]
    words = command.replace("$DAEMON", f"{address}:50051").replace("$TOKEN", fleet.secret("operator"))
    grpcurl, *rest = shlex.split(words)
    told = subprocess.run([ROOT / ".cache" / "tools" / "bin" / grpcurl, *rest], capture_output=True, text=True, timeout=30, check=False)
    assert told.returncode == 0, told
    return told.stdout


def what(command: str) -> str:
    """The method of a command, or its verb."""
    return next(name for name in TELLS if command.endswith(f"/{name}") or re.search(rf"\$DAEMON {name}\b", command))


def test_every_kind_of_command_is_shown() -> None:
    """None is left out here or there."""
    assert sorted(map(what, COMMANDS)) == sorted(TELLS)


@pytest.mark.parametrize("command", [command for command in COMMANDS if what(command) != "Drain"], ids=what)
async def test_operators_look(fleet: Composed, command: str) -> None:
    """At a daemon whose browser is leased."""
    async with fleet.connect()("http-modern") as agent:
        await agent.ok("browser_navigate", url=PAGE)
        [holder] = [name for name, leases in fleet.leases().items() if leases]
        assert TELLS[what(command)] in run(fleet, holder, command)


async def test_operators_drain(fleet: Composed) -> None:
    """Every session moves to the other daemon, and no call fails."""
    [drain] = [command for command in COMMANDS if what(command) == "Drain"]
    [look] = [command for command in COMMANDS if what(command) == "GetPool"]
    async with at_work(fleet) as workers:
        run(fleet, "pool-1", drain)
        await eventually(lambda: fleet.leases() == {"pool-1": 0, "pool-2": len(workers)}, "all have moved", 60)
        assert json.loads(run(fleet, "pool-1", look))["draining"] is True
        await go_on(workers)
        assert failures(workers) == ({}, [])
    fleet.compose("restart", "pool-1")

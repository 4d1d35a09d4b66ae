"""The fleet of docker-compose.yml, as an operator sees it: through the command for compose, and through its published ports."""

from __future__ import annotations

import json
import os
import re
import shlex
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from clients import Connector
from waiting import until

ROOT = Path(__file__).resolve().parents[2]
SECRETS = ROOT / "deploy" / "compose" / "secrets"
PROJECT = "browserfleet-test"
#: Not the port that somebody's own fleet has.
LISTEN = "127.0.0.1:18931"
TLS_LISTEN = "127.0.0.1:18443"
#: Where traces are collected: on this machine, as networks without a way out reach it (override.yml).
COLLECTOR = "10.213.7.1:4317"
#: The tests' pages, by the name that browsers know.
PAGE = "http://pages:8000/"
#: A container that starts, stops or becomes healthy.
SLOW = 90.0

ENVIRONMENT = {**os.environ, "BROWSERFLEET_LISTEN": LISTEN, "BROWSERFLEET_TLS_LISTEN": TLS_LISTEN, "BROWSERFLEET_TRACES__ENDPOINT": f"http://{COLLECTOR}"}
FILES = ["-f", str(ROOT / "docker-compose.yml"), "-f", str(ROOT / "tests" / "compose" / "override.yml")]
COMPOSE = [*shlex.split(os.environ.get("COMPOSE", "docker compose")), "-p", PROJECT, "--project-directory", str(ROOT), *FILES]


def docker(*words: str) -> str:
    """Runs the engine's command, and answers what it prints."""
    return run(["docker", *words])


def run(command: list[str], check: bool = True, both: bool = False) -> str:
    """Runs a command that ends by itself; answers what it prints, on standard error too for `both`."""
    ended = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=SLOW * 2, check=False)
    assert ended.returncode == 0 or not check, f"{shlex.join(command)}: {ended.stdout}{ended.stderr}"
    return ended.stdout + (ended.stderr if both else "")


class Composed:
    """The fleet, while it runs."""

    front_ends = ("frontend-1", "frontend-2")
    pools = ("pool-1", "pool-2")

    def compose(self, *words: str) -> str:
        """Runs the command for compose."""
        return run([*COMPOSE, *words])

    def container(self, service: str) -> str:
        """The name of a service's one container."""
        return f"{PROJECT}-{service}-1"

    def inspect(self, service: str) -> dict[str, Any]:
        """What the engine knows of a service's container."""
        [container] = json.loads(docker("inspect", self.container(service)))
        return container

    def secret(self, name: str) -> str:
        """A file of secrets."""
        return (SECRETS / name).read_text().strip()

    def connect(self) -> Connector:
        """Connects agents, through the proxy."""
        return Connector(f"http://{LISTEN}/mcp", key=self.secret("key"))

    def initialize(
        self, url: str = f"http://{LISTEN}/mcp", verify: ssl.SSLContext | bool = True, key: str | None = None
    ) -> httpx2.Response:
        """What a client of `initialize` is told that wants in."""
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
        asked = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
        headers = {"Authorization": f"Bearer {key or self.secret('key')}", "Accept": "application/json, text/event-stream"}
        return httpx2.post(url, json=asked, headers=headers, timeout=10, verify=verify)

    def front_end(self, path: str) -> Any:
        """What operators are told by one front end or the other."""
        return get(f"http://{LISTEN}{path}", self.secret("admin"))

    def pool(self, service: str, path: str = "/health") -> Any:
        """What operators are told by a daemon. Its port is inside: a front end's network is entered by nobody from here, so the
        engine tells the daemon's address, and the request comes from this machine."""
        networks = self.inspect(service)["NetworkSettings"]["Networks"]
        address = networks[f"{PROJECT}_grpc"]["IPAddress"]
        return get(f"http://{address}:50052{path}", self.secret("operator"))

    def metric(self, service: str, name: str) -> float:
        """The sum of a series of `/metrics`, over the labels that `name` leaves open: a regular expression."""
        port, network, token = (8931, "front", "admin") if service in self.front_ends else (50052, "grpc", "operator")
        address = self.inspect(service)["NetworkSettings"]["Networks"][f"{PROJECT}_{network}"]["IPAddress"]
        headers = {"Authorization": f"Bearer {self.secret(token)}", "Host": service}
        page = httpx2.get(f"http://{address}:{port}/metrics", headers=headers, timeout=10).raise_for_status().text
        return sum(float(value) for value in re.findall(rf"^{name} (\S+)$", page, re.MULTILINE))

    def leases(self) -> dict[str, int]:
        """How many browsers of each daemon that runs are leased."""
        running = [name for name in self.pools if self.inspect(name)["State"]["Status"] == "running"]
        return {name: self.pool(name)["leases"] for name in running}

    def is_well(self, service: str) -> bool:
        """Whether a service's own health check is content."""
        return self.inspect(service)["State"].get("Health", {}).get("Status") == "healthy"

    def await_well(self, *services: str) -> None:
        """Waits until these are well, or all."""
        for service in services or (*self.front_ends, *self.pools):
            until(lambda service=service: self.is_well(service), f"{service} is healthy", SLOW)


@contextmanager
def running() -> Iterator[Composed]:
    """The fleet for as long as somebody wants it; nothing of it is left."""
    run([str(ROOT / "deploy" / "compose" / "prepare.sh")])
    fleet = Composed()
    try:
        fleet.compose("up", "--detach", "--wait", "--wait-timeout", str(int(SLOW)))
        yield fleet
    except BaseException:
        print(run([*COMPOSE, "logs", "--no-color", "--tail", "20"], check=False))
        raise
    finally:
        run([*COMPOSE, "--profile", "*", "down", "--volumes", "--timeout", "45"], check=False)


def get(url: str, token: str) -> Any:
    """Asks for JSON over HTTP, with a token."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)

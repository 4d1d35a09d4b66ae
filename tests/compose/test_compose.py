"""What docker-compose.yml promises: who may do what, who reaches whom, and several clients at once."""

from __future__ import annotations

import json
import os
import re
import shlex
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from clients import Connector
from composed import COMPOSE, ENVIRONMENT, LISTEN, PAGE, PROJECT, ROOT, SECRETS, TLS_LISTEN, Composed, docker, run
from waiting import until

OURS = (*Composed.front_ends, *Composed.pools)
EVERYBODY = (*OURS, "proxy", "redis")

def asked(container: str, probe: str) -> str:
    """How a probe in a container ends."""
    return docker("exec", container, "sh", "-c", f"{probe}; echo $?").strip()


#: Of each process of Chromium's: its type (the first one's is "browser"), its namespaces, and how many filters it has.
PROCESSES = r"""for p in /proc/[0-9]*; do
  kind=$(grep -a -o -e '--type=[a-z]*' $p/cmdline 2>/dev/null | head -n 1 | cut -d= -f2)
  [ "$kind" ] || kind=$(grep -a -q -e '--remote-debugging-[p]ipe' $p/cmdline 2>/dev/null && echo browser)
  [ "$kind" ] || continue
  echo "$kind $(readlink $p/ns/user) $(readlink $p/ns/net) $(sed -n 's/^Seccomp_filters:\t//p' $p/status)"
done
echo "daemon $(readlink /proc/1/ns/user) $(readlink /proc/1/ns/net) 1"
"""


@pytest.mark.parametrize("service", EVERYBODY)
def test_nobody_has_more_rights_than_it_needs(fleet: Composed, service: str) -> None:
    """No root, no capability, nothing written but what is meant to be, bounded memory and processes."""
    container = fleet.inspect(service)
    host, config = container["HostConfig"], container["Config"]
    assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and not host["CapAdd"] and not host["Privileged"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["Memory"] > 0 and host["PidsLimit"] > 0
    user = config["User"].partition(":")[0]
    assert user not in ("", "0", "root"), user
    secrets = {fleet.secret(name) for name in ("store", "grpc", "operator", "key", "admin")}
    assert not any(secret in line for secret in secrets for line in config["Env"]), "secrets are files"


@pytest.mark.parametrize("service", Composed.pools)
def test_the_sandbox_is_on(fleet: Composed, service: str) -> None:
    """Each browser has a network of its own, and each renderer one within, behind a filter of its own besides the container's."""
    processes = [line.split() for line in fleet.compose("exec", "-T", service, "sh", "-c", PROCESSES).splitlines()]
    [daemon] = [words for words in processes if words[0] == "daemon"]
    renderers = [words for words in processes if words[0] == "renderer"]
    browsers = [words for words in processes if words[0] == "browser"]
    assert renderers and browsers, processes
    for _, users, network, filters in renderers:
        assert users != daemon[1] and network != daemon[2] and int(filters) >= 2, processes
    for _, users, network, _ in browsers:
        assert users != daemon[1] and network != daemon[2], processes
    assert len({network for _, _, network, _ in browsers}) == len(browsers), processes


def test_without_the_profile_there_is_no_daemon(fleet: Composed) -> None:
    """Rather than one whose browsers have no sandbox: it says what to do, and ends."""
    rights = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--tmpfs", "/tmp:size=1g,mode=1777"]
    name = f"{PROJECT}-without-profile"
    docker("run", "--detach", "--name", name, *rights, "--env", "BROWSERFLEET_UNSAFE__INSECURE=true", fleet.inspect("pool-1")["Config"]["Image"])
    try:
        assert docker("wait", name).strip() == "78"
        told = run(["docker", "logs", name], both=True)
        assert "sandbox: not possible: " in told and "deploy/seccomp/chromium.json" in told, told
    finally:
        docker("rm", "--force", name)


async def test_one_program_for_one_person(fleet: Composed) -> None:
    """The README's command, at another port and with a name."""
    [command] = re.findall(r"^docker run (.*?browserfleet/browserfleet)$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    name, port = f"{PROJECT}-alone", "127.0.0.1:18932"
    words = shlex.split(command.replace("\\\n", " ").replace("127.0.0.1:8931:", f"{port}:"))
    run(["docker", "run", "--detach", "--name", name, *words])
    try:
        until(lambda: asked(name, "browserfleet probe ready") == "0", "it is ready", 60)
        async with Connector(f"http://{port}/mcp")("http-modern") as agent:
            assert (await agent.ok("browser_navigate", url="about:blank")).text
    finally:
        docker("rm", "--force", name)


#: Who is where. `pages` is the tests' own.
NETWORKS = {
    "proxy": {"outside", "front"},
    "frontend-1": {"front", "grpc", "store"},
    "frontend-2": {"front", "grpc", "store"},
    "pool-1": {"grpc", "store", "egress", "pages"},
    "pool-2": {"grpc", "store", "egress", "pages"},
    "redis": {"store"},
}


def test_networks_are_apart(fleet: Composed) -> None:
    """The proxy meets front ends and nobody behind them; only it and browsers have a way out."""
    for service, networks in NETWORKS.items():
        assert set(fleet.inspect(service)["NetworkSettings"]["Networks"]) == {f"{PROJECT}_{name}" for name in networks}, service
    for name in {name for networks in NETWORKS.values() for name in networks}:
        [network] = json.loads(docker("network", "inspect", f"{PROJECT}_{name}"))
        assert network["Internal"] == (name not in ("outside", "egress")), name
    assert {service for service in EVERYBODY if any(fleet.inspect(service)["NetworkSettings"]["Ports"].values())} == {"proxy"}


async def test_browsers_reach_nobody_of_the_fleet(fleet: Composed) -> None:
    """Nor a cloud's metadata, whatever their daemon reaches."""
    async with fleet.connect()("http-modern") as agent:
        assert "Who was here?" in (await agent.ok("browser_navigate", url=PAGE)).text
        for target in ("redis:6379", "frontend-1:8931", "pool-2:50052", "169.254.169.254", "127.0.0.1:50052"):
            refused = await agent.call("browser_navigate", url=f"http://{target}/")
            assert refused.code == "url_blocked", refused


def test_several_clients_at_once(fleet: Composed) -> None:
    """The script that the README shows: three clients, a front end that is stopped in the middle, nothing lost."""
    script = [sys.executable, str(ROOT / "deploy" / "compose" / "several_clients.py"), "--url", f"http://{LISTEN}/mcp", "--page", PAGE]
    environment = {**os.environ, **ENVIRONMENT, "COMPOSE": shlex.join(COMPOSE)}
    told = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert told.returncode == 0 and told.stdout.rstrip().endswith("nothing is lost"), told
    assert told.stdout.count("more calls and no failure") == 3


def test_keys_come_and_go_while_it_runs(fleet: Composed) -> None:
    """One that is made is good at both front ends, and one that is revoked is not, without a restart."""
    user = fleet.inspect("frontend-1")["Config"]["User"]
    program = ["run", "--rm", "--network", "none", "--user", user, "--volume", f"{SECRETS / 'keys'}:/keys", "browserfleet/browserfleet"]

    def keys(*words: str) -> str:
        return docker(*program, "keys", *words, "--keys", "/keys/keys.json").strip()

    def statuses(key: str) -> set[int]:
        return {fleet.initialize(key=key).status_code for _ in range(4)}

    key = keys("create", "--name", "for-a-test", "--scopes", "browser:read")
    try:
        until(lambda: statuses(key) == {200}, "it lets in", 10)
    finally:
        keys("revoke", "for-a-test")
    until(lambda: statuses(key) == {401}, "it lets nobody in any more", 10)


@pytest.fixture
def certificate() -> Iterator[Path]:
    """One for loopback that nobody has signed; that of the person whose checkout this is stays as it is."""
    pem = SECRETS / "tls.pem"
    assert not pem.exists(), f"{pem} is somebody's: move it away for this test"
    name = ["-subj", "/CN=browserfleet", "-addext", "subjectAltName=IP:127.0.0.1"]
    run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *name, "-keyout", str(pem), "-out", f"{pem}.crt"])
    certificate = Path(f"{pem}.crt")
    pem.write_text(certificate.read_text() + pem.read_text())
    pem.chmod(0o600)
    os.chown(pem, SECRETS.stat().st_uid, SECRETS.stat().st_gid)
    yield certificate
    certificate.unlink()
    pem.unlink()


def test_https_ends_at_the_proxy(fleet: Composed, certificate: Path) -> None:
    """In the profile `tls`: who trusts the certificate gets in, and plain HTTP does not."""
    fleet.compose("--profile", "tls", "up", "--detach", "proxy-tls")
    trusting = ssl.create_default_context(cafile=str(certificate))

    def gets_in() -> bool:
        try:
            return fleet.initialize(f"https://{TLS_LISTEN}/mcp", trusting).status_code == 200
        except httpx2.TransportError:
            return False

    until(gets_in, "a client is let in", 30)
    with pytest.raises(httpx2.TransportError):
        fleet.initialize(f"http://{TLS_LISTEN}/mcp")
    with pytest.raises(httpx2.ConnectError):
        fleet.initialize(f"https://{TLS_LISTEN}/mcp")


@pytest.fixture
def one_way(fleet: Composed) -> Iterator[None]:
    """Only the second front end is there."""
    fleet.compose("stop", "frontend-1")
    yield
    fleet.compose("start", "frontend-1")


async def test_any_front_end_goes_on_where_another_stopped(fleet: Composed, one_way: None) -> None:
    """A session of before is known to the one that is left."""
    async with fleet.connect()("http-legacy") as agent:
        await agent.ok("browser_navigate", url=PAGE)
        fleet.compose("start", "frontend-1")
        fleet.await_well("frontend-1")
        fleet.compose("stop", "frontend-2")
        try:
            assert "Who was here?" in (await agent.ok("browser_snapshot")).text
        finally:
            fleet.compose("start", "frontend-2")

"""What is shipped to run it with: the settings in it are ones that the programs know, and what has to agree agrees."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from programs import Place, binary, free_address
from redis_server import Redis

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
PREFIX = "BROWSERFLEET_"
#: What docker-compose.yml reads itself, and gives no program.
OF_COMPOSE = {"BROWSERFLEET_" + name for name in ("USER", "VERSION", "PROGRAMS", "HOSTS", "LISTEN", "TLS_LISTEN", "BROWSERS", "POOL_MEMORY")}

SECONDS = {"s": 1, "m": 60, "h": 3600}


def documents(path: Path) -> list[dict[str, Any]]:
    """Every document of a file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def container(name: str, file: str) -> dict[str, Any]:
    """The one container of a workload, and its pod."""
    [pod] = [d["spec"]["template"]["spec"] for d in documents(K8S / "base" / file) if d["kind"] in ("Deployment", "StatefulSet")]
    [found] = [c for c in pod["containers"] if c["name"] == name]
    return {**found, "pod": pod}


def settings_of_compose(service: str) -> dict[str, str]:
    """A service's environment, with the defaults of compose's own variables."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    environment = compose["services"][service]["environment"]
    # Those without a value are only there when whoever starts it says so.
    said = {name: str(value) for name, value in environment.items() if value is not None}
    return {name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) for name, value in said.items()}


def settings_of_image(target: str) -> dict[str, str]:
    """What a target of the Dockerfile sets."""
    stages = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    [stage] = [stage for stage in stages if re.match(rf"\S+ AS {target}\n", stage)]
    return dict(re.findall(rf"({PREFIX}\w+)=(\S+)", stage))


def settings_of_pod(name: str, file: str) -> dict[str, str]:
    """A container's environment, with what the cluster fills in."""
    filled = {"$(POD_NAME)": "browserfleet-pool-0", "$(POD_NAMESPACE)": "browserfleet", "$(POD_IP)": "10.0.0.9"}
    settings = {}
    for variable in container(name, file)["env"]:
        if variable["name"].startswith(PREFIX):
            value = variable.get("value", "redis://redis:6379")
            for pattern, text in filled.items():
                value = value.replace(pattern, text)
            settings[variable["name"]] = value
    return settings


#: Program, environment, and the file of settings.
DEPLOYED = {
    "compose front end": ("mcp-frontend", lambda: settings_of_compose("frontend-1"), None),
    "compose daemon": ("pool-daemon", lambda: settings_of_compose("pool-2"), None),
    "pod of a front end": ("mcp-frontend", lambda: settings_of_pod("mcp-frontend", "frontend.yaml"), "browserfleet.toml"),
    "pod of a daemon": ("pool-daemon", lambda: settings_of_pod("pool-daemon", "pool.yaml"), "browserfleet.toml"),
}


@pytest.mark.parametrize("what", DEPLOYED)
def test_the_settings_are_known_to_the_programs(what: str, place: Place, tmp_path: Path) -> None:
    """A program takes them all, with secrets and a Redis as they say; one that is misspelled is told."""
    program, settings, file = DEPLOYED[what]
    redis = Redis()
    try:
        here = _here(settings_of_image(program) | settings(), tmp_path, redis.url)
        arguments = ["--check"]
        if file:
            config = tmp_path / file
            config.write_text(_with_secrets_of(tmp_path, (K8S / "base" / file).read_text()))
            arguments += ["--config", str(config)]
        place.environment |= here
        assert _run(place, program, arguments).returncode == 0, _run(place, program, arguments)
        place.environment["BROWSERFLEET_STORE__URI"] = "redis://redis"
        wrong = _run(place, program, arguments)
        assert wrong.returncode != 0 and "store.uri: no such setting" in wrong.stdout + wrong.stderr, wrong
    finally:
        redis.close()


def _run(place: Place, program: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    command = [binary(program), *arguments]
    return subprocess.run(command, env=place.environment, capture_output=True, text=True, timeout=30, check=False)


def _here(settings: dict[str, str], directory: Path, redis: str) -> dict[str, str]:
    """The same, with files, a store and ports of this machine."""
    filled = {name: _with_secrets_of(directory, value) for name, value in settings.items()}
    filled["BROWSERFLEET_STORE__URL"] = redis
    for name in filled:
        if name.endswith("LISTEN"):
            filled[name] = f"0.0.0.0:{free_address().rpartition(':')[2]}"
    return filled


def _with_secrets_of(directory: Path, text: str) -> str:
    """The text, with a file of ours for each secret that it names."""

    def made(match: re.Match[str]) -> str:
        path = directory / Path(match[0]).name.removesuffix(".json")
        if not path.exists() and path.name == "keys":
            subprocess.run([binary("browserfleet"), "keys", "create", "--name", "x", "--scopes", "admin", "--keys", str(path)], check=True)
        elif not path.exists():
            path.write_text(os.urandom(32).hex())
            path.chmod(0o600)
        return str(path)

    return re.sub(r"/run/(?:secrets|keys)/[\w./-]+", made, text)


def test_the_variables_of_compose_are_used() -> None:
    """Each that the README may name is in the file, and each in the file is known here."""
    used = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    assert used == OF_COMPOSE


def test_pods_have_the_time_that_they_need_to_end() -> None:
    """The drain, and what comes before and after it: else the kubelet kills browsers with sessions in them."""
    settings = tomllib.loads((K8S / "base" / "browserfleet.toml").read_text())
    front_end, daemon = container("mcp-frontend", "frontend.yaml"), container("pool-daemon", "pool.yaml")
    waits = front_end["lifecycle"]["preStop"]["sleep"]["seconds"]
    last_tasks, ending = _constant("mcp-frontend/src/cli.rs", "LAST_TASKS"), _constant("pool-daemon/src/app.rs", "END")
    assert front_end["pod"]["terminationGracePeriodSeconds"] >= waits + _seconds(settings["http"]["drain_timeout"]) + last_tasks
    needed = _seconds(settings["daemon"]["drain_grace"]) + ending + _constant("pool-daemon/src/main.rs", "LAST_TASKS")
    assert daemon["pod"]["terminationGracePeriodSeconds"] >= needed
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert _seconds(compose["frontend-1"]["stop_grace_period"]) >= _default("http", "drain_timeout") + last_tasks
    assert _seconds(compose["pool-1"]["stop_grace_period"]) >= _default("daemon", "drain_grace") + ending + last_tasks


def test_proxies_wait_longer_than_calls_take() -> None:
    """What they cut off is lost: `session_run_tasks` may say nothing until it is done."""
    longest = _default("call", "tasks_timeout")
    proxy = re.search(r"^ *timeout server (\w+)$", (ROOT / "deploy" / "compose" / "haproxy.cfg").read_text(), re.MULTILINE)
    assert proxy and _seconds(proxy[1]) > longest
    ingress = yaml.safe_load((K8S / "components" / "ingress" / "ingress.yaml").read_text())["metadata"]["annotations"]
    assert int(ingress["nginx.ingress.kubernetes.io/proxy-read-timeout"]) > longest


def _default(section: str, key: str) -> int:
    """Of a setting, in seconds, as the reference has it."""
    of_section = (ROOT / "docs" / "settings.md").read_text().split(f"## {section}\n", 1)[1].split("\n## ", 1)[0]
    row = re.search(rf"^\| `{key}` \|[^|]*\|[^|]*\| ([^|]*) \|", of_section, re.MULTILINE)
    assert row, f"{section}.{key} is not in docs/settings.md"
    return _seconds(row[1].strip("`"))


def _seconds(text: str) -> int:
    return int(text[:-1]) * SECONDS[text[-1]]


def _constant(file: str, name: str) -> int:
    """A constant of the programs, in seconds."""
    found = re.search(rf"const {name}: Duration = Duration::from_secs\((\d+)\)", (ROOT / "crates" / file).read_text())
    assert found, (file, name)
    return int(found[1])


def test_probes_of_life_know_nothing_of_redis() -> None:
    """Whatever is away, nobody is restarted for it."""
    for name, file in (("mcp-frontend", "frontend.yaml"), ("pool-daemon", "pool.yaml")):
        found = container(name, file)
        assert found["livenessProbe"]["httpGet"]["path"] == found["startupProbe"]["httpGet"]["path"] == "/health"
        assert found["readinessProbe"]["httpGet"]["path"] == "/ready"


def test_copies_are_the_same() -> None:
    """Kustomize reads nothing outside of its folders, and the Prometheus operator has a form of its own."""
    assert (K8S / "components/seccomp/chromium.json").read_bytes() == (ROOT / "deploy/seccomp/chromium.json").read_bytes()
    [alerts], [rule] = documents(ROOT / "deploy/alerts.yml"), documents(K8S / "components/monitoring/alerts.yaml")
    assert rule["spec"]["groups"] == alerts["groups"]


def test_every_alert_has_its_runbook() -> None:
    """And it is about series that exist."""
    guide = (ROOT / "docs" / "operations.md").read_text()
    headings = {heading.lower() for heading in re.findall(r"^#+ (\w+)$", guide, re.MULTILINE)}
    source = (ROOT / "crates/common/src/metrics/mod.rs").read_text()
    for rule in yaml.safe_load((ROOT / "deploy/alerts.yml").read_text())["groups"][0]["rules"]:
        file, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert file == "docs/operations.md" and anchor == rule["alert"].lower() and anchor in headings, rule["alert"]
        for name in re.findall(r"browserfleet_\w+", rule["expr"]):
            assert f'"{name.removesuffix("_total")}"' in source, name

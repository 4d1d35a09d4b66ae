"""Prometheus sees the fleet: every target answers, every alert is loaded, and every panel of the dashboard has its query answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from composed import PAGE, ROOT, Composed
from waiting import until

PROMETHEUS = "http://127.0.0.1:9090"
#: Series that are there only once something went wrong, or somebody was refused.
RARE = {
    "browserfleet_acquire_refusals_total",
    "browserfleet_browser_deaths_total",
    "browserfleet_page_recoveries_total",
    "browserfleet_unauthenticated_requests_total",
    "browserfleet_throttled_requests_total",
}


def asked(path: str) -> Any:
    """What Prometheus answers."""
    answer = httpx2.get(f"{PROMETHEUS}/api/v1{path}", timeout=10).json()
    assert answer["status"] == "success", answer
    return answer["data"]


def targets() -> dict[str, str]:
    """How each target is."""
    return {target["labels"]["instance"]: target["health"] for target in asked("/targets")["activeTargets"]}


@pytest.fixture(scope="module")
def prometheus(whole_fleet: Composed) -> Iterator[None]:
    """Prometheus alone of the profile: Grafana shows what it is asked."""
    whole_fleet.compose("up", "--detach", "prometheus")
    until(_is_ready, "prometheus is ready", 60)
    yield
    whole_fleet.compose("rm", "--stop", "--force", "prometheus")


def _is_ready() -> bool:
    """It refuses questions while it reads what it has kept."""
    try:
        return httpx2.get(f"{PROMETHEUS}/-/ready", timeout=10).status_code == 200
    except httpx2.TransportError:
        return False


def queries() -> list[str]:
    """Every query of the dashboard, with its variable as Grafana would fill it."""
    panels = json.loads((ROOT / "deploy" / "grafana" / "browserfleet.json").read_text())["panels"]
    return [target["expr"].replace("$__rate_interval", "1m") for panel in panels for target in panel["targets"]]


async def test_everybody_is_seen(fleet: Composed, prometheus: None) -> None:
    """With the operators' credentials; a session is in the numbers."""
    expected = {f"{name}:8931": "up" for name in fleet.front_ends} | {f"{name}:50052": "up" for name in fleet.pools}
    until(lambda: targets() == expected, f"all are up: {targets()}", 60)
    async with fleet.connect()("http-modern") as agent:
        await agent.ok("browser_navigate", url=PAGE)
        leased = quote('sum(browserfleet_browsers{state="leased"})')
        until(lambda: asked(f"/query?query={leased}")["result"][0]["value"][1] == "1", "the lease is counted", 30)


def test_every_panel_has_its_answer(fleet: Composed, prometheus: None) -> None:
    """Series that exist, under the names and labels that panels ask for."""
    for query in queries():
        empty = [name for name in RARE if name in query]
        if empty:
            asked(f"/query?query={quote(query)}")
        else:
            until(lambda query=query: asked(f"/query?query={quote(query)}")["result"], f"there is something for {query}", 60)


def test_every_alert_is_loaded(fleet: Composed, prometheus: None) -> None:
    """And none fires in a fleet that is well."""
    [group] = asked("/rules")["groups"]
    assert len(group["rules"]) >= 10 and all(rule["health"] != "err" for rule in group["rules"]), group
    firing = [alert for alert in asked("/alerts")["alerts"] if alert["state"] == "firing"]
    assert firing == [], firing

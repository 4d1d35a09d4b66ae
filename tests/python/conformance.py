"""MCP's conformance suites, run against a server, and what they found."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

from typescript import NODE

PACKAGES = Path(__file__).resolve().parents[1] / "conformance" / "node_modules"

#: Most seconds for a suite, far beyond what it takes.
PATIENCE = 55

#: What says neither that something is right nor that it is wrong.
HARMLESS = {"SUCCESS", "INFO", "SKIPPED"}


@dataclass(frozen=True)
class Findings:
    """What a suite says of a server."""

    #: Of each scenario that was run, what is not right about it.
    scenarios: dict[str, list[str]]
    #: Whether the suite itself is content.
    accepted: bool
    #: What it says in the end, for people.
    summary: str

    def wrong(self) -> dict[str, list[str]]:
        """The scenarios that are not as they should be."""
        return {scenario: found for scenario, found in self.scenarios.items() if found}


def released(url: str) -> Findings:
    """All scenarios of the released suite, which knows protocols up to 2025-11-25."""
    return _run("conformance-0.1", url, "--suite", "all")


def required(revision: str, url: str) -> Findings:
    """All scenarios that a revision of the protocol requires, and those that are run besides."""
    return _run("conformance-0.2", url, "--requirements", revision)


def scored(revision: str) -> set[str]:
    """The scenarios that a server has to pass, as the suite lists them."""
    listed = yaml.safe_load((PACKAGES / "conformance-0.2" / "requirements" / f"{revision}.yaml").read_text())
    return set(listed["server"])


def _run(package: str, url: str, *choice: str) -> Findings:
    with tempfile.TemporaryDirectory(prefix="bfconformance") as found:
        command = [str(NODE), str(PACKAGES / package / "dist" / "index.js"), "server", "--url", url, *choice, "-o", found]
        suite = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        scenarios: dict[str, list[str]] = {}
        for directory in Path(found).iterdir():
            name = re.fullmatch(r"server-(.+)-\d{4}-\d\d-\d\dT.*", directory.name)
            assert name, f"results have another name than they had: {directory.name}"
            checks = json.loads((directory / "checks.json").read_text())
            bad = [check for check in checks if check["status"] not in HARMLESS]
            scenarios[name[1]] = [f"{it['status']} {it['id']}: {it.get('errorMessage')}" for it in bad]
        summary = suite.stdout[suite.stdout.rfind("=== SUMMARY") :] + suite.stderr
        return Findings(scenarios, suite.returncode == 0, summary)

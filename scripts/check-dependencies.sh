#!/usr/bin/env bash
# Licences, sources and duplicate versions of dependencies, by cargo-deny (deny.toml). Installed on first use.
# `check-dependencies.sh advisories` asks for known holes instead, which needs a database from the network: by hand or on a schedule.
set -euo pipefail

version=0.20.2
tools=.cache/tools

if ! "$tools/bin/cargo-deny" --version 2>/dev/null | grep -q " $version\$"; then
  echo "== building cargo-deny $version (once, a few minutes)"
  # It runs for a second: optimising it would take longer than it ever saves.
  CARGO_PROFILE_DEV_DEBUG=false cargo install --debug cargo-deny --version "$version" --locked --quiet --root "$tools" --target-dir .cache/deny-target
  rm -rf .cache/deny-target
fi
cargo fetch --locked --quiet
export PATH="$PWD/$tools/bin:$PATH"
if [ "${1:-}" = advisories ]; then
  cargo deny check advisories
else
  cargo deny --offline check bans licenses sources
fi

#!/usr/bin/env bash
# Licences, sources and duplicate versions of dependencies, by cargo-deny (deny.toml). Installed on first use.
# Advisories need a database from the network: `cargo deny check advisories`, by hand or in a scheduled job.
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
PATH="$PWD/$tools/bin:$PATH" cargo deny --offline check bans licenses sources

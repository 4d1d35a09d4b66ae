#!/usr/bin/env bash
# Makes sure that there is a redis-server for the tests to start: each one starts its own, on a port of its own.
set -euo pipefail

command -v redis-server >/dev/null && exit 0

if ! command -v apt-get >/dev/null; then
  echo "the tests need redis-server 7.0 or newer: install it with your system's packages, then try again" >&2
  exit 1
fi

as_root=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || { echo "install this package as root: redis-server" >&2; exit 1; }
  as_root=(sudo)
fi
echo "== installing redis-server (once)"
"${as_root[@]}" apt-get update -q
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -q -y --no-install-recommends redis-server

#!/usr/bin/env bash
# A virtual environment with the MCP clients that the end-to-end tests drive. Made once, renewed when the list changes.
set -euo pipefail

list=tests/python/requirements.txt
stamp=.venv/.installed

if [ -e "$stamp" ] && cmp -s "$list" "$stamp"; then exit 0; fi

if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
  if ! command -v apt-get >/dev/null; then
    echo "the end-to-end tests need python3 with venv; install it, then try again" >&2
    exit 1
  fi
  as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo)
  echo "== installing python3-venv"
  "${as_root[@]}" apt-get update -q
  DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -q -y --no-install-recommends python3 python3-venv
fi

echo "== installing the Python MCP clients into .venv"
python3 -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$list"
cp "$list" "$stamp"

